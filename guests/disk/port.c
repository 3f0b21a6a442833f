/* Runs a program with a virtio port as its input and output, a program without a C library:
 *   port NAME PROGRAM …   finds the port of this name, waits until the other end is open, too, and runs the program
 * The shell's `< /dev/vport0p1` does not wait: to a reader, an end that is not open yet looks like one that has closed. */
#include "program.h"

enum { READ_WRITE = 2 };
enum { OUT = 4, DEVICES = 100, PORTS = 10, LONGEST = 64 };

struct waiting { int fd; u16 events, revents; };

static void fail(const char *what, const char *which) {
	print("port: ");
	print(what);
	print(which);
	print("\n");
	call(EXIT, 1, 0, 0);
}

/* Writes the beginning, vportDpP and the end to a path, and opens it. */
static int open_of(const char *beginning, int device, int port, const char *end, int how) {
	char path[LONGEST], *at = path;
	for (; *beginning; beginning++) *at++ = *beginning;
	for (const char *name = "vport"; *name; name++) *at++ = *name;
	if (device >= 10) *at++ = (char)('0' + device / 10);
	*at++ = (char)('0' + device % 10);
	*at++ = 'p';
	*at++ = (char)('0' + port);
	for (; *end; end++) *at++ = *end;
	*at = 0;
	return (int)call(OPEN, (long)path, how, 0);
}

/* Whether a port's name is this one. */
static int is_called(int device, int port, const char *name) {
	char found[LONGEST];
	int file = open_of("/sys/class/virtio-ports/", device, port, "/name", 0);
	if (file < 0) return 0;
	long got = call(READ, file, (long)found, sizeof found);
	call(CLOSE, file, 0, 0);
	/* A line end follows it. */
	if (got != length(name) + 1) return 0;
	for (int i = 0; i < got - 1; i++)
		if (found[i] != name[i]) return 0;
	return 1;
}

static int open_port(const char *name) {
	for (int device = 0; device < DEVICES; device++)
		for (int port = 1; port < PORTS; port++)
			if (is_called(device, port, name)) return open_of("/dev/", device, port, "", READ_WRITE);
	fail("no port is called ", name);
	return -1;
}

void begin(long *stack) {
	char **arguments = (char **)(stack + 1), **environment = arguments + stack[0] + 1;
	if (stack[0] < 3) {
		print("usage: port NAME /PROGRAM ...\n");
		call(EXIT, 2, 0, 0);
	}
	int port = open_port(arguments[1]);
	if (port < 0) fail("somebody else has opened ", arguments[1]);
	struct waiting other = {port, OUT, 0};
	/* Until it is open it counts as hung up, of which poll tells at once. */
	while (call(POLL, (long)&other, 1, -1) >= 0 && !(other.revents & OUT)) call(POLL, 0, 0, 20);
	for (int fd = 0; fd < 2; fd++) call(DUP2, port, fd, 0);
	call(CLOSE, port, 0, 0);
	call(EXECVE, (long)arguments[2], (long)(arguments + 2), (long)environment);
	fail("cannot run ", arguments[2]);
}
