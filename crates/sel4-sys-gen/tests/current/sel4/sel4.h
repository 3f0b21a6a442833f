#pragma once
#include <kernel/gen_config.h>
#include <sel4/sel4_arch/constants.h>
typedef unsigned char seL4_Uint8;
typedef unsigned long seL4_Word;
typedef seL4_Word seL4_CPtr;
typedef seL4_CPtr seL4_CNode;
typedef seL4_CPtr seL4_TCB;
typedef seL4_CPtr seL4_DomainSet;
typedef seL4_CPtr seL4_X86_IOPortControl;
typedef seL4_CPtr seL4_X86_VCPU;
typedef enum { seL4_NoError = 0, seL4_InvalidArgument, seL4_NumErrors } seL4_Error;
typedef struct { seL4_Word words[1]; } seL4_MessageInfo_t;
typedef struct seL4_VCPUContext_ {
    seL4_Word eax, ebx;
#ifdef CONFIG_X86_64_VTX_64BIT_GUESTS
    seL4_Word r8, r9;
#endif
} seL4_VCPUContext;
typedef struct { seL4_MessageInfo_t tag; seL4_Word msg[120]; } seL4_IPCBuffer;
