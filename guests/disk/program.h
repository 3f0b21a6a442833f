/* What programs without a C library share, of 32 or 64 bits: system calls (Linux, arch/x86/entry/syscalls), their entry, and
 * messages. `begin` gets what the kernel leaves on the stack: the number of arguments, then their addresses, a zero, and those of
 * the environment. */
typedef unsigned int u32;
typedef unsigned short u16;

#if defined __i386__
enum {
	EXIT = 1, FORK = 2, READ = 3, WRITE = 4, OPEN = 5, CLOSE = 6, EXECVE = 11, DUP2 = 63, SOCKETCALL = 102, POLL = 168,
	RT_SIGACTION = 174
};

static long call(long number, long a, long b, long c) {
	long result;
	asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(8) : "memory");
	return result;
}

asm(".globl _start\n_start: mov %esp, %eax; push %eax; call begin");
#elif defined __x86_64__
enum {
	READ = 0, WRITE = 1, OPEN = 2, CLOSE = 3, POLL = 7, RT_SIGACTION = 13, DUP2 = 33, SOCKET = 41, CONNECT = 42, ACCEPT = 43, SENDTO = 44,
	SHUTDOWN = 48, BIND = 49, LISTEN = 50, FORK = 57, EXECVE = 59, EXIT = 60
};

/* Of more than four arguments the others are zero. */
static long call4(long number, long a, long b, long c, long d) {
	long result;
	register long fourth asm("r10") = d, fifth asm("r8") = 0, sixth asm("r9") = 0;
	asm volatile("syscall"
		: "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth), "r"(sixth) : "rcx", "r11", "memory");
	return result;
}

static long call(long number, long a, long b, long c) {
	return call4(number, a, b, c, 8);
}

asm(".globl _start\n_start: mov %rsp, %rdi; and $-16, %rsp; call begin");
#else
#error "for x86"
#endif

void begin(long *stack);

static int length(const char *text) {
	int length = 0;
	while (text[length]) length++;
	return length;
}

static void print(const char *text) {
	call(WRITE, 2, (long)text, length(text));
}
