/* What the programs of the Linux rows share: system calls without a C library, and rows by RDTSC, printed as
 * "= NAMEPLACE MIN MEDIAN P99" in hexadecimal. */
typedef unsigned int u32;

enum { ROUNDS = 2000, EXIT = 1, WRITE = 4, IOCTL = 54, TCSBRK = 0x5409 };

static u32 samples[ROUNDS];

static int call(int number, int a, int b, int c) {
	int result;
	asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
	return result;
}

/* The low half suffices for differences. */
static u32 tsc(void) {
	u32 low;
	asm volatile("rdtsc" : "=a"(low) : : "edx");
	return low;
}

static void print(const char *text) {
	u32 length = 0;
	while (text[length]) length++;
	call(WRITE, 1, (int)text, (int)length);
}

static void print_hex(u32 value) {
	char digits[10] = " 00000000";
	for (int i = 8; i > 0; i--, value >>= 4) digits[i] = "0123456789abcdef"[value & 15];
	print(digits);
}

static void row(const char *name, const char *place, u32 count) {
	for (u32 i = 1; i < count; i++) {
		u32 sample = samples[i], j = i;
		for (; j > 0 && samples[j - 1] > sample; j--) samples[j] = samples[j - 1];
		samples[j] = sample;
	}
	print("= ");
	print(name);
	print(place);
	print_hex(samples[0]);
	print_hex(samples[count / 2]);
	print_hex(samples[count * 99 / 100]);
	print("\n");
}

/* Waits until all of the output is out. */
static void drain(void) {
	call(IOCTL, 1, TCSBRK, 1);
}

/* The kernel leaves the number of arguments and their addresses on the stack. */
asm(".globl _start\n_start: mov %esp, %eax; push %eax; call begin");
