/* A watchpoint as a debugger sets it: a stopped child's debug registers by PTRACE_POKEUSER, and then its write to the variable
 * stops it again, by SIGTRAP. Ends with 0 if so. i386 system calls, no library. */
static int call(int number, int a, int b, int c, int d) {
	int result;
	asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
	return result;
}

enum { EXIT = 1, FORK = 2, WAITPID = 7, GETPID = 20, PTRACE = 26, KILL = 37 };
enum { TRACEME = 0, POKEUSER = 6, CONT = 7, SIGKILL = 9, SIGSTOP = 19, STOPPED_BY_SIGTRAP = 0x57f };
/* Offset of u_debugreg[0] in struct user; DR7: breakpoint 0 for this task, 4 bytes, at writes. */
enum { DR0 = 252, DR7 = DR0 + 7 * 4, WRITE_4 = 0xd0001 };

static volatile int watched;

void _start(void) {
	int status = 0, child = call(FORK, 0, 0, 0, 0);
	if (child == 0) {
		call(PTRACE, TRACEME, 0, 0, 0);
		call(KILL, call(GETPID, 0, 0, 0, 0), SIGSTOP, 0, 0);
		watched = 1;
		call(EXIT, 7, 0, 0, 0);
	}
	call(WAITPID, child, (int)&status, 0, 0);
	call(PTRACE, POKEUSER, child, DR0, (int)&watched);
	call(PTRACE, POKEUSER, child, DR7, WRITE_4);
	call(PTRACE, CONT, child, 0, 0);
	call(WAITPID, child, (int)&status, 0, 0);
	call(KILL, child, SIGKILL, 0, 0);
	call(EXIT, status != STOPPED_BY_SIGTRAP, 0, 0, 0);
}
