/* A guest's end of a channel, for programs with or without a C library, of 32 or 64 bits: this file is all of it.
 *
 *	struct channel channel;
 *	if (channel_open(&channel, "strings") < 0) ...
 *	channel_write(&channel, 0, 0, "hello", 6);     into dataport 0, from its first byte on
 *	channel_emit(&channel);
 *	channel_wait(&channel, 1000);                  for events of the other end, a second at most
 *	channel_read(&channel, 1, 0, answer, sizeof answer);
 *
 * Functions return an error as the kernel does: the negative number of errno. The other end may change a dataport at any time:
 * check a copy (channel_read), never the dataport itself (channel_map).
 *
 * The channel is a PCI function that Linux's uio_pci_generic drives. That driver knows no device by itself; channel_open tells
 * it of this one, if it is loaded. Linux, Documentation/driver-api/uio-howto.rst, "Generic PCI UIO driver".
 */
#ifndef PORTCULLIS_CHANNEL_H
#define PORTCULLIS_CHANNEL_H

enum {
	CHANNEL_DATAPORTS = 4,
	CHANNEL_DEVICES = 32,
	CHANNEL_NAME = 48,
	/* From errno.h. */
	CHANNEL_ENOENT = 2,
	CHANNEL_ENXIO = 6,
	CHANNEL_EACCES = 13,
	CHANNEL_ENODEV = 19,
	CHANNEL_EINVAL = 22,
};

struct channel {
	/* Its device number on the bus. */
	int device;
	/* The numbers of the files: of its interrupts, and of its configuration space. */
	int uio, config;
	int dataports;
	/* The dataports that this guest may write, bit by bit. */
	unsigned writable;
	volatile unsigned *registers;
	volatile unsigned char *dataport[CHANNEL_DATAPORTS];
	unsigned long size[CHANNEL_DATAPORTS];
};

enum { CHANNEL_EMITTED = 0, CHANNEL_RECEIVED = 1, CHANNEL_TAKEN = 2 };

#if defined __i386__
enum {
	CHANNEL_SYS_READ = 3, CHANNEL_SYS_WRITE = 4, CHANNEL_SYS_OPEN = 5, CHANNEL_SYS_CLOSE = 6, CHANNEL_SYS_MUNMAP = 91,
	CHANNEL_SYS_POLL = 168, CHANNEL_SYS_PREAD = 180, CHANNEL_SYS_PWRITE = 181, CHANNEL_SYS_MMAP = 192,
};

static inline long channel_call(int number, long a, long b, long c, long d) {
	long result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(0) : "memory");
	return result;
}

/* Five arguments, and 0 as the offset: the sixth is in EBP, which the compiler may need. */
static inline long channel_mmap(long length, long protection, long file) {
	long result;
	__asm__ volatile("push %%ebp\n\txor %%ebp, %%ebp\n\tint $0x80\n\tpop %%ebp"
		: "=a"(result) : "a"(CHANNEL_SYS_MMAP), "b"(0), "c"(length), "d"(protection), "S"(1), "D"(file) : "memory");
	return result;
}
#elif defined __x86_64__
enum {
	CHANNEL_SYS_READ = 0, CHANNEL_SYS_WRITE = 1, CHANNEL_SYS_OPEN = 2, CHANNEL_SYS_CLOSE = 3, CHANNEL_SYS_POLL = 7,
	CHANNEL_SYS_MMAP = 9, CHANNEL_SYS_MUNMAP = 11, CHANNEL_SYS_PREAD = 17, CHANNEL_SYS_PWRITE = 18,
};

static inline long channel_call(int number, long a, long b, long c, long d) {
	long result;
	register long fourth __asm__("r10") = d;
	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth) : "rcx", "r11", "memory");
	return result;
}

static inline long channel_mmap(long length, long protection, long file) {
	long result;
	register long flags __asm__("r10") = 1, number __asm__("r8") = file, offset __asm__("r9") = 0;
	__asm__ volatile("syscall" : "=a"(result)
		: "a"(CHANNEL_SYS_MMAP), "D"(0), "S"(length), "d"(protection), "r"(flags), "r"(number), "r"(offset)
		: "rcx", "r11", "memory");
	return result;
}
#else
#error "channels are for x86"
#endif

/* Opens /sys/bus/pci/devices/0000:00:DD.0 and `file` behind it; -1 is the end of a number. */
static inline int channel_file(int device, const char *file, int number, const char *more, int how) {
	char path[96], *at = path;
	const char *base = "/sys/bus/pci/devices/0000:00:";
	while (*base) *at++ = *base++;
	*at++ = "01"[device / 16];
	*at++ = "0123456789abcdef"[device % 16];
	*at++ = '.';
	*at++ = '0';
	while (*file) *at++ = *file++;
	if (number >= 0) {
		if (number >= 10) *at++ = (char)('0' + number / 10);
		*at++ = (char)('0' + number % 10);
	}
	while (*more) *at++ = *more++;
	*at = 0;
	return (int)channel_call(CHANNEL_SYS_OPEN, (long)path, how, 0, 0);
}

/* Whether the function of that device is the channel of this name, or of any name if there is none. Fills in what is known by its
 * configuration space, and its name. */
static inline int channel_is(struct channel *channel, int device, const char *wanted, char name[CHANNEL_NAME]) {
	unsigned char space[256];
	int file = channel_file(device, "/config", -1, "", 0), same = 1;
	if (file < 0) return 0;
	long got = channel_call(CHANNEL_SYS_PREAD, file, (long)space, sizeof space, 0);
	channel_call(CHANNEL_SYS_CLOSE, file, 0, 0, 0);
	if (got < 64 || space[0] != 0xf4 || space[1] != 0x1a || space[2] != 0xf0 || space[3] != 0x10) return 0;
	int at = space[0x34];
	/* Without root's rights, Linux gives the header only. */
	if (got < 256 || at < 64 || at > 250 - CHANNEL_NAME || space[at] != 9 || space[at + 3] != 1) return 0;
	channel->device = device;
	channel->dataports = space[at + 4] < CHANNEL_DATAPORTS ? space[at + 4] : (int)CHANNEL_DATAPORTS;
	channel->writable = space[at + 5];
	int n = 0;
	for (; n < CHANNEL_NAME - 1 && space[at + 6 + n]; n++) {
		name[n] = (char)space[at + 6 + n];
		if (wanted && same) same = wanted[n] == name[n];
	}
	name[n] = 0;
	return same && (!wanted || !wanted[n]);
}

/* The end of line `line` of the file `resource`, less its beginning, plus 1: lines are two numbers and flags, in hexadecimal. */
static inline unsigned long channel_size(int device, int line) {
	char text[1024];
	int file = channel_file(device, "/resource", -1, "", 0);
	if (file < 0) return 0;
	long got = channel_call(CHANNEL_SYS_READ, file, (long)text, sizeof text, 0);
	channel_call(CHANNEL_SYS_CLOSE, file, 0, 0, 0);
	unsigned long long number[2] = {0, 0};
	int word = 0;
	for (long at = 0; at < got; at++) {
		char letter = text[at];
		if (letter == '\n') {
			line--;
			word = 0;
		} else if (letter == ' ') {
			word++;
		} else if (line == 0 && word < 2 && letter != 'x') {
			int digit = letter <= '9' ? letter - '0' : letter - 'a' + 10;
			number[word] = number[word] * 16 + (unsigned)digit;
		}
	}
	return number[1] > number[0] ? (unsigned long)(number[1] - number[0] + 1) : 0;
}

static inline void *channel_bar(int device, int bar, unsigned long size, int writable) {
	int file = channel_file(device, "/resource", bar, "", writable ? 2 : 0);
	if (file < 0) return 0;
	long at = channel_mmap((long)size, writable ? 3 : 1, file);
	channel_call(CHANNEL_SYS_CLOSE, file, 0, 0, 0);
	return at < 0 && at > -4096 ? 0 : (void *)at;
}

/* The file of its interrupts. */
static inline int channel_uio(int device) {
	for (int number = 0; number < 64; number++) {
		int there = channel_file(device, "/uio/uio", number, "/name", 0);
		if (there < 0) continue;
		channel_call(CHANNEL_SYS_CLOSE, there, 0, 0, 0);
		char path[] = "/dev/uio\0\0", *at = path + 8;
		if (number >= 10) *at++ = (char)('0' + number / 10);
		*at = (char)('0' + number % 10);
		int file = (int)channel_call(CHANNEL_SYS_OPEN, (long)path, 2, 0, 0);
		/* Not to be taken for a channel that is not there. */
		return file == -CHANNEL_ENOENT ? -CHANNEL_ENODEV : file;
	}
	return -CHANNEL_ENXIO;
}

/* Closes what channel_open has opened so far, and passes its error on. */
static inline int channel_give_up(struct channel *channel, int dataports, int error) {
	for (int n = 0; n < dataports; n++)
		channel_call(CHANNEL_SYS_MUNMAP, (long)channel->dataport[n], (long)channel->size[n], 0, 0);
	if (channel->registers) channel_call(CHANNEL_SYS_MUNMAP, (long)channel->registers, 4096, 0, 0);
	if (channel->config >= 0) channel_call(CHANNEL_SYS_CLOSE, channel->config, 0, 0, 0);
	channel_call(CHANNEL_SYS_CLOSE, channel->uio, 0, 0, 0);
	return error;
}

/* Opens the channel of this name. -ENOENT: the guest has none of it. -ENXIO: no driver; `modprobe uio_pci_generic`. -ENODEV: there
 * is no /dev/uioN of it. */
static inline int channel_open(struct channel *channel, const char *name) {
	char found[CHANNEL_NAME];
	int device = 0;
	channel->registers = 0;
	while (device < CHANNEL_DEVICES && !channel_is(channel, device, name, found)) device++;
	if (device == CHANNEL_DEVICES) return -CHANNEL_ENOENT;
	channel->uio = channel_uio(device);
	if (channel->uio == -CHANNEL_ENXIO) {
		static const char id[] = "1af4 10f0";
		long driver = channel_call(CHANNEL_SYS_OPEN, (long)"/sys/bus/pci/drivers/uio_pci_generic/new_id", 1, 0, 0);
		if (driver >= 0) {
			channel_call(CHANNEL_SYS_WRITE, driver, (long)id, sizeof id - 1, 0);
			channel_call(CHANNEL_SYS_CLOSE, driver, 0, 0, 0);
			channel->uio = channel_uio(device);
		}
	}
	if (channel->uio < 0) return channel->uio;
	channel->config = channel_file(device, "/config", -1, "", 2);
	if (channel->config < 0) return channel_give_up(channel, 0, channel->config);
	channel->registers = (volatile unsigned *)channel_bar(device, 0, 4096, 1);
	if (!channel->registers) return channel_give_up(channel, 0, -CHANNEL_EACCES);
	for (int n = 0; n < channel->dataports; n++) {
		channel->size[n] = channel_size(device, n + 1);
		channel->dataport[n] = (volatile unsigned char *)channel_bar(device, n + 1, channel->size[n], channel->writable >> n & 1);
		if (!channel->dataport[n]) return channel_give_up(channel, n, -CHANNEL_EACCES);
	}
	return 0;
}

/* Closes it. Events that come meanwhile are there when it is opened again. */
static inline void channel_close(struct channel *channel) {
	channel_call(CHANNEL_SYS_MUNMAP, (long)channel->registers, 4096, 0, 0);
	for (int n = 0; n < channel->dataports; n++)
		channel_call(CHANNEL_SYS_MUNMAP, (long)channel->dataport[n], (long)channel->size[n], 0, 0);
	channel_call(CHANNEL_SYS_CLOSE, channel->config, 0, 0, 0);
	channel_call(CHANNEL_SYS_CLOSE, channel->uio, 0, 0, 0);
}

/* Emits an event: the other end sees what was written before. */
static inline void channel_emit(struct channel *channel) {
	channel->registers[CHANNEL_EMITTED] = 1;
}

/* Takes all events that have come; returns how many. */
static inline unsigned channel_take(struct channel *channel) {
	unsigned received = channel->registers[CHANNEL_RECEIVED], events = received - channel->registers[CHANNEL_TAKEN];
	if (events) channel->registers[CHANNEL_TAKEN] = received;
	return events;
}

/* Waits for events and takes them: returns how many, or 0 after so many milliseconds (-1: never). */
static inline long channel_wait(struct channel *channel, int milliseconds) {
	for (;;) {
		unsigned events = channel_take(channel);
		if (events) return events < 0x7fffffff ? (long)events : 0x7fffffff;
		/* The driver sets the bit "interrupt disable" of the command register at each interrupt. */
		unsigned short command;
		channel_call(CHANNEL_SYS_PREAD, channel->config, (long)&command, sizeof command, 4);
		command &= (unsigned short)~0x400;
		channel_call(CHANNEL_SYS_PWRITE, channel->config, (long)&command, sizeof command, 4);
		struct { int file; short events, found; } poll = {channel->uio, 1, 0};
		long ready = channel_call(CHANNEL_SYS_POLL, (long)&poll, 1, milliseconds, 0);
		if (ready < 0) return ready;
		if (ready == 0) return channel_take(channel);
		unsigned count;
		channel_call(CHANNEL_SYS_READ, channel->uio, (long)&count, sizeof count, 0);
	}
}

/* Copies from a dataport: returns 0, or -EINVAL if it has not so many bytes. */
static inline int channel_read(struct channel *channel, int dataport, unsigned long at, void *to, unsigned long length) {
	if (dataport < 0 || dataport >= channel->dataports) return -CHANNEL_EINVAL;
	unsigned long size = channel->size[dataport];
	if (at > size || length > size - at) return -CHANNEL_EINVAL;
	for (unsigned long n = 0; n < length; n++) ((unsigned char *)to)[n] = channel->dataport[dataport][at + n];
	return 0;
}

/* Copies to a dataport; -EACCES if only the other end may write it. */
static inline int channel_write(struct channel *channel, int dataport, unsigned long at, const void *from, unsigned long length) {
	if (dataport < 0 || dataport >= channel->dataports) return -CHANNEL_EINVAL;
	unsigned long size = channel->size[dataport];
	if (at > size || length > size - at) return -CHANNEL_EINVAL;
	if (!(channel->writable >> dataport & 1)) return -CHANNEL_EACCES;
	for (unsigned long n = 0; n < length; n++) channel->dataport[dataport][at + n] = ((const unsigned char *)from)[n];
	return 0;
}

/* The memory of a dataport and its size, or 0. */
static inline volatile void *channel_map(struct channel *channel, int dataport, unsigned long *size) {
	if (dataport < 0 || dataport >= channel->dataports) return 0;
	*size = channel->size[dataport];
	return channel->dataport[dataport];
}

#endif
