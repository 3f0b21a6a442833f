/* Measures round trips to a server: client ENDPOINT SIZE COUNT */
#include "common.h"

static void round_trip(void *socket, char *message, int size)
{
	check("zmq_send", zmq_send(socket, message, size, 0));
	if (check("zmq_recv", zmq_recv(socket, message, size, 0)) != size)
		refuse("the answer has another length");
}

int main(int argc, char **argv)
{
	if (argc != 4)
		refuse("usage: client ENDPOINT SIZE COUNT");
	int size = number(argv[2]), count = number(argv[3]);
	char *message = calloc(1, size);
	void *context = zmq_ctx_new();
	void *socket = connected(context, ZMQ_REQ, argv[1]);
	/* The first one waits for the server, and is not measured. */
	round_trip(socket, message, size);
	void *watch = zmq_stopwatch_start();
	for (int i = 0; i < count; i++)
		round_trip(socket, message, size);
	unsigned long elapsed = zmq_stopwatch_stop(watch);
	round_trip(socket, message, 0);
	printf("message size: %d [B]\nroundtrip count: %d\n", size, count);
	/* Of one way. */
	printf("average latency: %.3f [us]\n", elapsed / (2.0 * count));
	return finish(context, socket, NULL);
}
