/* Streams by AF_VSOCK at a shell, a program without a C library:
 *   vsock CID PORT           connects, sends its input and prints what comes
 *   vsock -l PORT            does the same with the first who connects
 *   vsock -l PORT PROGRAM …  runs the program for each who connects, as its input and output */
#include "program.h"

enum { AF_VSOCK = 40, SOCK_STREAM = 1, ANY_CID = -1, DONT_WAIT = 0x40, SIGCHLD = 17, IGNORE = 1, AGAIN = -11 };
enum { IN = 1, OUT = 4 };

struct address { u16 family, reserved; u32 port, cid, zero; };
struct waiting { int fd; u16 events, revents; };

#if defined __i386__
enum { SOCKET = 1, BIND = 2, CONNECT = 3, LISTEN = 4, ACCEPT = 5, SENDTO = 9, SHUTDOWN = 13 };

/* All of them are one system call. */
static int socket_call(int number, long a, long b, long c, long d) {
	long arguments[] = {a, b, c, d};
	return (int)call(SOCKETCALL, number, (long)arguments, 0);
}
#else
static int socket_call(int number, long a, long b, long c, long d) {
	return (int)call4(number, a, b, c, d);
}
#endif

/* The kernel's, with a signal set of 8 bytes. */
struct action { long handler, flags, restorer; unsigned long mask[8 / sizeof(long)]; };

static void on_signal(int signal, long handler) {
	struct action action = {handler, 0, 0, {0}};
	call(RT_SIGACTION, signal, (long)&action, 0);
}

static void fail(const char *what, int error) {
	char digits[] = "000\n";
	error = -error;
	for (int i = 2; i >= 0; i--, error /= 10) digits[i] = (char)('0' + error % 10);
	print("vsock: ");
	print(what);
	print(": error ");
	print(digits);
	call(EXIT, 1, 0, 0);
}

static u32 number(const char *text) {
	u32 value = 0;
	for (; *text; text++) {
		if (*text < '0' || *text > '9') fail("not a number", -22);
		value = 10 * value + (u32)(*text - '0');
	}
	return value;
}

/* Copies in both directions until both have ended. */
static void copy(int socket) {
	static char from[65536], to[65536];
	int rest = 0, next = 0;
	struct waiting all[2] = {{0, IN, 0}, {socket, IN, 0}};
	while (all[0].fd >= 0 || (all[1].events & IN)) {
		all[0].events = rest ? 0 : IN;
		all[1].events = (u16)((all[1].events & IN) | (rest ? OUT : 0));
		/* Who waits for nothing is not told of errors either. */
		struct waiting now[2] = {all[0], all[1]};
		if (!now[0].events) now[0].fd = -1;
		if (!now[1].events) now[1].fd = -1;
		call(POLL, (long)now, 2, -1);
		if ((now[1].events & IN) && (now[1].revents & ~OUT)) {
			long got = call(READ, socket, (long)to, sizeof to), done = 0;
			if (got <= 0) all[1].events = 0;
			while (done < got) {
				long wrote = call(WRITE, 1, (long)(to + done), got - done);
				if (wrote <= 0) call(EXIT, 1, 0, 0);
				done += wrote;
			}
		}
		if (rest && (now[1].revents & ~IN)) {
			int sent = socket_call(SENDTO, socket, (long)(from + next), rest, DONT_WAIT);
			if (sent < 0 && sent != AGAIN) fail("send", sent);
			if (sent > 0) next += sent, rest -= sent;
		} else if (now[0].revents) {
			rest = (int)call(READ, 0, (long)from, sizeof from), next = 0;
			if (rest <= 0) {
				rest = 0, all[0].fd = -1;
				socket_call(SHUTDOWN, socket, 1, 0, 0);
			}
		}
	}
	call(EXIT, 0, 0, 0);
}

static void listen(u32 port, char **program, char **environment) {
	struct address here = {AF_VSOCK, 0, port, (u32)ANY_CID, 0};
	int listener = socket_call(SOCKET, AF_VSOCK, SOCK_STREAM, 0, 0), error;
	if (listener < 0) fail("socket", listener);
	if ((error = socket_call(BIND, listener, (long)&here, sizeof here, 0))) fail("bind", error);
	if ((error = socket_call(LISTEN, listener, 8, 0, 0))) fail("listen", error);
	on_signal(SIGCHLD, IGNORE);
	for (;;) {
		int client = socket_call(ACCEPT, listener, 0, 0, 0);
		if (client < 0) fail("accept", client);
		if (!*program) {
			call(CLOSE, listener, 0, 0);
			copy(client);
		}
		if (!call(FORK, 0, 0, 0)) {
			for (int fd = 0; fd < 3; fd++) call(DUP2, client, fd, 0);
			call(CLOSE, client, 0, 0);
			call(CLOSE, listener, 0, 0);
			on_signal(SIGCHLD, 0);
			fail(*program, (int)call(EXECVE, (long)*program, (long)program, (long)environment));
		}
		call(CLOSE, client, 0, 0);
	}
}

void begin(long *stack) {
	char **arguments = (char **)(stack + 1);
	if (stack[0] < 3) {
		print("usage: vsock CID PORT | vsock -l PORT [/PROGRAM ...]\n");
		call(EXIT, 2, 0, 0);
	}
	if (arguments[1][0] == '-' && arguments[1][1] == 'l')
		listen(number(arguments[2]), arguments + 3, arguments + stack[0] + 1);
	struct address to = {AF_VSOCK, 0, number(arguments[2]), number(arguments[1]), 0};
	int socket = socket_call(SOCKET, AF_VSOCK, SOCK_STREAM, 0, 0);
	if (socket < 0) fail("socket", socket);
	int error = socket_call(CONNECT, socket, (long)&to, sizeof to, 0);
	if (error) fail("connect", error);
	copy(socket);
}
