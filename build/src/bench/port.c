/* Writes a word to an I/O port, letter by letter, and a line end: port NUMBER WORD. Without a C library, and in one
 * process: what it marks is a moment. */
typedef unsigned int u32;

enum { EXIT = 1, IOPERM = 101 };

static int call(int number, int a, int b, int c) {
	int result;
	asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
	return result;
}

static void out(u32 port, char byte) {
	asm volatile("outb %0, %w1" : : "a"(byte), "d"(port));
}

/* The kernel leaves the number of arguments and their addresses on the stack. */
asm(".globl _start\n_start: mov %esp, %eax; push %eax; call begin");

void begin(u32 *stack) {
	if (stack[0] != 3) call(EXIT, 1, 0, 0);
	const char *number = (const char *)stack[2], *word = (const char *)stack[3];
	u32 port = 0;
	for (; *number; number++) port = 10 * port + (u32)(*number - '0');
	if (call(IOPERM, (int)port, 1, 1)) call(EXIT, 2, 0, 0);
	for (; *word; word++) out(port, *word);
	out(port, '\n');
	call(EXIT, 0, 0, 0);
}
