/* Does tasks, up to an empty one, and sends their results to the sink: worker ENDPOINT SINK NUMBER */
#include <unistd.h>

#include "common.h"

int main(int argc, char **argv)
{
	char task[LONGEST + 1], result[2 * LONGEST + 2];

	if (argc != 4)
		refuse("usage: worker ENDPOINT SINK NUMBER");
	int own = number(argv[3]);
	void *context = zmq_ctx_new();
	void *tasks = bound(context, ZMQ_PULL, argv[1]);
	void *sink = connected(context, ZMQ_PUSH, argv[2]);
	while (receive_text(tasks, task)) {
		/* The work, from 1 to 10 ms. */
		usleep(1000 * (1 + atoi(task) % 10));
		snprintf(result, sizeof result, "%d %s", own, task);
		send_text(sink, result);
	}
	return finish(context, tasks, sink);
}
