//! From a multiboot loader to Rust: a header for each of the two protocols, the way from 32-bit protected mode to long mode with
//! the first 4 GiB mapped one to one, and a handler for all exceptions (Intel SDM volume 3, chapters 5, 7 and 11).
//!
//! A general protection fault in `probe_read_msr` makes that function return 0; any other exception is the end.
#![allow(unsafe_code)]

use core::arch::global_asm;

/// Bytes of the stack.
const STACK: usize = 256 << 10;

global_asm!(
    r#"
    .section .text._start, "ax"
    .code32
    .balign 8
multiboot2:
    .long 0xe85250d6, 0, 48, 0x100000000 - (0xe85250d6 + 48)
    /* a framebuffer if there is one, rather of 1024 by 768 pixels of 32 bits */
    .short 5, 1
    .long 20, 1024, 768, 32, 0
    .short 0, 0
    .long 8
multiboot1:
    /* flags: the loader is to tell about memory */
    .long 0x1badb002, 2, -(0x1badb002 + 2)

    .global _start
_start:
    cli
    cld
    mov esp, offset probe_stack_top
    mov ebp, eax
    mov esi, ebx
    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb 9f
    mov eax, 0x80000001
    cpuid
    bt edx, 29
    jnc 9f

    /* four page directories of 2 MiB pages: present, writable, large */
    mov edi, offset probe_directories
    mov eax, 0x83
    mov ecx, 2048
2:  mov [edi], eax
    mov dword ptr [edi + 4], 0
    add edi, 8
    add eax, 0x200000
    loop 2b
    mov edi, offset probe_pointers
    mov eax, offset probe_directories + 3
    mov ecx, 4
3:  mov [edi], eax
    add edi, 8
    add eax, 0x1000
    loop 3b
    /* the last GiB of all addresses is for the screen */
    mov dword ptr [probe_pointers + 8 * 511], offset probe_window + 3
    mov eax, offset probe_pointers + 3
    mov [probe_level_4], eax
    mov [probe_level_4 + 8 * 511], eax
    mov eax, offset probe_level_4
    mov cr3, eax
    /* PAE, and SSE, which compiled code uses: OSFXSR, OSXMMEXCPT */
    mov eax, 0x620
    mov cr4, eax
    mov ecx, 0xc0000080
    rdmsr
    bts eax, 8
    wrmsr
    mov eax, cr0
    /* without EM and TS, with PG, NE and MP */
    and eax, 0xfffffff3
    or eax, 0x80000022
    mov cr0, eax
    lgdt [probe_gdt_pointer]
    .byte 0xea
    .long probe_long_mode
    .short 8

    /* without long mode: says so on COM1 and stops */
9:  mov esi, offset probe_uart
6:  movzx edx, word ptr [esi]
    test edx, edx
    jz 1f
    mov al, [esi + 2]
    out dx, al
    add esi, 3
    jmp 6b
1:  mov esi, offset probe_too_old
4:  lodsb
    test al, al
    jz 7f
    mov ah, al
    mov dx, 0x3fd
    mov ecx, 100000
5:  in al, dx
    test al, 0x20
    loopz 5b
    mov dx, 0x3f8
    mov al, ah
    out dx, al
    jmp 4b
7:  hlt
    jmp 7b

    .code64
probe_long_mode:
    mov ax, 16
    mov ds, ax
    mov es, ax
    mov ss, ax
    xor eax, eax
    mov fs, ax
    mov gs, ax
    mov rsp, offset probe_stack_top
    mov edi, ebp
    /* esi has what the loader left in ebx */
    mov esi, esi
    call {main}
8:  hlt
    jmp 8b

    .text
    .global probe_read_msr
probe_read_msr:
    mov ecx, edi
probe_at_rdmsr:
    rdmsr
    mov [rsi], eax
    mov [rsi + 4], edx
    mov eax, 1
    ret
probe_no_msr:
    xor eax, eax
    ret

    /* each vector's entry has 16 bytes, and pushes an error code where the processor does not */
    .balign 16
    .global probe_vectors
probe_vectors:
    .set vector, 0
    .rept 32
    .balign 16
    .if (0x60227d00 >> vector) & 1
    .else
    push 0
    .endif
    push vector
    jmp probe_exception
    .set vector, vector + 1
    .endr

probe_exception:
    cmp qword ptr [rsp], 13
    jne 2f
    lea rax, [rip + probe_at_rdmsr]
    cmp [rsp + 16], rax
    jne 2f
    lea rax, [rip + probe_no_msr]
    mov [rsp + 16], rax
    add rsp, 16
    iretq
2:  mov rdi, [rsp]
    mov rsi, [rsp + 8]
    mov rdx, [rsp + 16]
    mov rcx, cr2
    and rsp, -16
    call {fault}
3:  hlt
    jmp 3b

    .section .rodata
    .balign 8
probe_gdt:
    .quad 0
    .quad 0x00209a0000000000
    .quad 0x0000920000000000
probe_gdt_pointer:
    .short 23
    .long probe_gdt
    /* ports and values: divisor 1, 8N1 */
probe_uart:
    .short 0x3fb
    .byte 0x83
    .short 0x3f8
    .byte 1
    .short 0x3f9
    .byte 0
    .short 0x3fb
    .byte 3
    .short 0
probe_too_old:
    .asciz "FAIL 64-bit mode: this processor has none, and the kernel is 64-bit code\r\n"

    .section .bss
    .balign 4096
probe_level_4:     .skip 4096
probe_pointers:    .skip 4096
probe_directories: .skip 16384
    .global probe_window
probe_window:      .skip 4096
    .balign 16
    .skip {stack}
probe_stack_top:
    .text
"#,
    main = sym crate::start,
    fault = sym crate::fault,
    stack = const STACK,
);
