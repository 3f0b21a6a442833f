/* Channels for shell scripts, a program without a C library:
 *   portcullis-channel list                            the guest's channels
 *   portcullis-channel emit NAME                       emits an event
 *   portcullis-channel wait NAME [MILLISECONDS]        waits for events and says how many; fails if none come
 *   portcullis-channel count NAME                      says how many events were emitted, received and taken
 *   portcullis-channel write NAME [DATAPORT [OFFSET]]  copies standard input to a dataport
 *   portcullis-channel read NAME [DATAPORT [OFFSET [BYTES]]]   copies a dataport to standard output: a string, or so many bytes */
#include "portcullis-channel.h"

enum { PIECE = 4096 };

static int length(const char *text) {
	int length = 0;
	while (text[length]) length++;
	return length;
}

static void print(int file, const char *text) {
	channel_call(CHANNEL_SYS_WRITE, file, (long)text, length(text), 0);
}

static void print_number(int file, unsigned long number) {
	char digits[24], *at = digits + sizeof digits - 1;
	*at = 0;
	do *--at = (char)('0' + number % 10); while (number /= 10);
	print(file, at);
}

#if defined __i386__
enum { EXIT = 1 };
#else
enum { EXIT = 60 };
#endif

static void leave(int status) {
	for (;;) channel_call(EXIT, status, 0, 0, 0);
}

static void fail(const char *what, const char *which, const char *remedy) {
	print(2, "portcullis-channel: ");
	print(2, what);
	print(2, which);
	print(2, remedy);
	print(2, "\n");
	leave(1);
}

static void usage(void) {
	print(2, "usage: portcullis-channel list | emit NAME | wait NAME [MILLISECONDS] | count NAME |\n"
		"       write NAME [DATAPORT [OFFSET]] | read NAME [DATAPORT [OFFSET [BYTES]]]\n");
	leave(2);
}

static int same(const char *one, const char *other) {
	while (*one && *one == *other) one++, other++;
	return *one == *other;
}

static unsigned long number(const char *text) {
	unsigned long value = 0;
	if (!*text) usage();
	for (; *text; text++) {
		/* As a positive int. */
		if (*text < '0' || *text > '9' || value > 0x7fffffff / 10 - 1) usage();
		value = value * 10 + (unsigned long)(*text - '0');
	}
	return value;
}

static void list(void) {
	for (int device = 0; device < CHANNEL_DEVICES; device++) {
		struct channel channel;
		char name[CHANNEL_NAME];
		if (!channel_is(&channel, device, 0, name)) continue;
		print(1, name);
		for (int n = 0; n < channel.dataports; n++) {
			print(1, n ? ", " : ": ");
			print_number(1, channel_size(device, n + 1));
			print(1, channel.writable >> n & 1 ? " bytes" : " bytes, read-only");
		}
		print(1, "\n");
	}
}

static void write_in(struct channel *channel, const char *name, int dataport, unsigned long at) {
	unsigned char piece[PIECE];
	long got;
	while ((got = channel_call(CHANNEL_SYS_READ, 0, (long)piece, sizeof piece, 0)) > 0) {
		int refused = channel_write(channel, dataport, at, piece, (unsigned long)got);
		if (refused == -CHANNEL_EACCES) fail("only the other end may write that dataport of ", name, "");
		if (refused) fail("standard input does not fit into the dataport of ", name, "");
		at += (unsigned long)got;
	}
}

static void read_out(struct channel *channel, const char *name, int dataport, unsigned long at, long bytes) {
	unsigned long size = 0;
	if (!channel_map(channel, dataport, &size)) fail("there is no such dataport of ", name, "");
	if (at > size || (bytes >= 0 && (unsigned long)bytes > size - at)) fail("not so many bytes are in the dataport of ", name, "");
	unsigned long left = bytes >= 0 ? (unsigned long)bytes : size - at;
	while (left > 0) {
		unsigned char piece[PIECE];
		unsigned long some = left < sizeof piece ? left : sizeof piece, end = 0;
		channel_read(channel, dataport, at, piece, some);
		while (end < some && (bytes >= 0 || piece[end])) end++;
		channel_call(CHANNEL_SYS_WRITE, 1, (long)piece, (long)end, 0);
		if (end < some) break;
		at += some;
		left -= some;
	}
	if (bytes < 0) print(1, "\n");
}

/* The kernel leaves the number of arguments, and then their addresses, on the stack. */
#if defined __i386__
__asm__(".globl _start\n_start: mov %esp, %eax; and $-16, %esp; sub $12, %esp; push %eax; call begin");
#else
__asm__(".globl _start\n_start: mov %rsp, %rdi; and $-16, %rsp; call begin");
#endif

void begin(long *stack) {
	long count = stack[0];
	char **words = (char **)(stack + 1);
	const char *verb = count > 1 ? words[1] : "";
	if (count == 2 && same(verb, "list")) {
		list();
		leave(0);
	}
	int most = same(verb, "emit") || same(verb, "count") ? 3 : same(verb, "wait") ? 4 : same(verb, "write") ? 5 : same(verb, "read") ? 6 : 0;
	if (count < 3 || count > most) usage();
	const char *name = words[2];
	unsigned long values[3] = {0, 0, 0};
	for (long n = 3; n < count; n++) values[n - 3] = number(words[n]);
	struct channel channel;
	int opened = channel_open(&channel, name);
	if (opened == -CHANNEL_ENOENT) fail("no channel is called ", name, ": see `portcullis-channel list`, as root");
	if (opened == -CHANNEL_ENXIO) fail("no driver for ", name, ": `modprobe uio_pci_generic`");
	if (opened == -CHANNEL_ENODEV) fail("there is no /dev/uio file of ", name, ": mount devtmpfs at /dev");
	if (opened) fail("cannot open ", name, ": are you root?");
	int status = 0;
	if (same(verb, "emit")) {
		channel_emit(&channel);
	} else if (same(verb, "wait")) {
		long events = channel_wait(&channel, count > 3 ? (int)values[0] : -1);
		print_number(1, events > 0 ? (unsigned long)events : 0);
		print(1, "\n");
		status = events <= 0;
	} else if (same(verb, "count")) {
		static const char *const what[] = {"emitted ", ", received ", ", taken "};
		for (int n = 0; n < 3; n++) {
			print(1, what[n]);
			print_number(1, channel.registers[n]);
		}
		print(1, "\n");
	} else if (same(verb, "write")) {
		write_in(&channel, name, (int)values[0], values[1]);
	} else {
		read_out(&channel, name, (int)values[0], values[1], count > 5 ? (long)values[2] : -1);
	}
	leave(status);
}
