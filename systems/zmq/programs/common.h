/* What the programs have in common. A call that fails ends the program, with a line that says which and why. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum { LONGEST = 64, PATIENCE = 120000 };

static inline int check(const char *what, int result)
{
	if (result < 0) {
		fprintf(stderr, "%s: %s\n", what, zmq_strerror(zmq_errno()));
		exit(1);
	}
	return result;
}

static inline void refuse(const char *why)
{
	fprintf(stderr, "%s\n", why);
	exit(1);
}

static inline int number(const char *text)
{
	char *end;
	long value = strtol(text, &end, 10);
	if (end == text || *end || value < 1 || value > 1000000)
		refuse("a number from 1 to 1000000 is expected");
	return value;
}

/* A socket without a peer. Nobody waits longer than PATIENCE for a peer that does not come. */
static inline void *socket_of(void *context, int type)
{
	void *socket = zmq_socket(context, type);
	int patience = PATIENCE;
	check("zmq_socket", socket ? 0 : -1);
	check("ZMQ_RCVTIMEO", zmq_setsockopt(socket, ZMQ_RCVTIMEO, &patience, sizeof patience));
	check("ZMQ_LINGER", zmq_setsockopt(socket, ZMQ_LINGER, &patience, sizeof patience));
	return socket;
}

static inline void *bound(void *context, int type, const char *endpoint)
{
	void *socket = socket_of(context, type);
	check(endpoint, zmq_bind(socket, endpoint));
	return socket;
}

static inline void *connected(void *context, int type, const char *endpoint)
{
	void *socket = socket_of(context, type);
	check(endpoint, zmq_connect(socket, endpoint));
	return socket;
}

static inline void send_text(void *socket, const char *text)
{
	check("zmq_send", zmq_send(socket, text, strlen(text), 0));
}

/* A message as a text, cut off at LONGEST characters. Returns how many there are. */
static inline int receive_text(void *socket, char *text)
{
	int length = check("zmq_recv", zmq_recv(socket, text, LONGEST, 0));
	if (length > LONGEST)
		length = LONGEST;
	text[length] = 0;
	return length;
}

/* Sends what waits, then ends. */
static inline int finish(void *context, void *socket, void *other)
{
	zmq_close(socket);
	if (other)
		zmq_close(other);
	check("zmq_ctx_term", zmq_ctx_term(context));
	return 0;
}
