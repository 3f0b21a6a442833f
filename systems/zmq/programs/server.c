/* Sends back what it gets, up to an empty message: server ENDPOINT */
#include "common.h"

int main(int argc, char **argv)
{
	zmq_msg_t message;
	int length;

	if (argc != 2)
		refuse("usage: server ENDPOINT");
	void *context = zmq_ctx_new();
	void *socket = bound(context, ZMQ_REP, argv[1]);
	zmq_msg_init(&message);
	do {
		length = check("zmq_msg_recv", zmq_msg_recv(&message, socket, 0));
		check("zmq_msg_send", zmq_msg_send(&message, socket, 0));
	} while (length);
	zmq_msg_close(&message);
	return finish(context, socket, NULL);
}
