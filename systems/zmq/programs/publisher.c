/* Publishes the weather at ten zip codes: publisher ENDPOINT SUBSCRIBERS UPDATES
 * It begins when there are so many subscriptions, and drops nothing. */
#include "common.h"

enum { FIRST = 10000, PLACES = 10 };

int main(int argc, char **argv)
{
	char text[LONGEST + 1];
	int yes = 1;

	if (argc != 4)
		refuse("usage: publisher ENDPOINT SUBSCRIBERS UPDATES");
	int subscribers = number(argv[2]), updates = number(argv[3]);
	void *context = zmq_ctx_new();
	void *socket = socket_of(context, ZMQ_XPUB);
	check("ZMQ_XPUB_VERBOSE", zmq_setsockopt(socket, ZMQ_XPUB_VERBOSE, &yes, sizeof yes));
	check("ZMQ_XPUB_NODROP", zmq_setsockopt(socket, ZMQ_XPUB_NODROP, &yes, sizeof yes));
	check(argv[1], zmq_bind(socket, argv[1]));
	while (subscribers) {
		/* 1 stands before the prefix that somebody subscribes to, 0 before one that nobody wants any more. */
		receive_text(socket, text);
		subscribers -= text[0] == 1;
	}
	for (int update = 0; update < updates; update++)
		for (int place = 0; place < PLACES; place++) {
			snprintf(text, sizeof text, "%d %d", FIRST + place, 20 + 3 * place + update / 2);
			send_text(socket, text);
		}
	return finish(context, socket, NULL);
}
