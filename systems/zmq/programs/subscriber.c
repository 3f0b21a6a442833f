/* Averages the temperatures at a zip code: subscriber ENDPOINT ZIPCODE UPDATES */
#include "common.h"

int main(int argc, char **argv)
{
	char text[LONGEST + 1];
	int sum = 0, nothing = 0, place, temperature;

	if (argc != 4)
		refuse("usage: subscriber ENDPOINT ZIPCODE UPDATES");
	int zipcode = number(argv[2]), updates = number(argv[3]);
	void *context = zmq_ctx_new();
	void *socket = connected(context, ZMQ_SUB, argv[1]);
	/* At the end the publisher may be gone, and libzmq would wait for it, to subscribe anew. */
	check("ZMQ_LINGER", zmq_setsockopt(socket, ZMQ_LINGER, &nothing, sizeof nothing));
	check("ZMQ_SUBSCRIBE", zmq_setsockopt(socket, ZMQ_SUBSCRIBE, argv[2], strlen(argv[2])));
	for (int i = 0; i < updates; i++) {
		receive_text(socket, text);
		if (sscanf(text, "%d %d", &place, &temperature) != 2 || place != zipcode)
			refuse("an update is not one of those subscribed to");
		sum += temperature;
	}
	printf("Average temperature for zipcode %d was %.1fF\n", zipcode, (double)sum / updates);
	return finish(context, socket, NULL);
}
