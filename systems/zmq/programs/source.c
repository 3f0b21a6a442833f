/* Deals tasks out to workers in turn, and then the end: source COUNT WORKER … */
#include "common.h"

int main(int argc, char **argv)
{
	char text[LONGEST + 1];

	if (argc < 3)
		refuse("usage: source COUNT WORKER ...");
	int count = number(argv[1]);
	void *context = zmq_ctx_new();
	/* A socket that connects has a queue for each peer at once, so that each gets its share whoever is there first. */
	void *socket = connected(context, ZMQ_PUSH, argv[2]);
	for (int i = 3; i < argc; i++)
		check(argv[i], zmq_connect(socket, argv[i]));
	for (int task = 0; task < count; task++) {
		snprintf(text, sizeof text, "%d", task);
		send_text(socket, text);
	}
	for (int i = 2; i < argc; i++)
		send_text(socket, "");
	return finish(context, socket, NULL);
}
