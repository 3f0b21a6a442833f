/* Gathers the results of tasks, each once: sink ENDPOINT WORKERS COUNT */
#include "common.h"

int main(int argc, char **argv)
{
	char text[LONGEST + 1];
	void *watch = NULL;
	int worker, task;

	if (argc != 4)
		refuse("usage: sink ENDPOINT WORKERS COUNT");
	int workers = number(argv[2]), count = number(argv[3]);
	int *by = calloc(workers + 1, sizeof *by);
	char *done = calloc(count, 1);
	void *context = zmq_ctx_new();
	void *socket = bound(context, ZMQ_PULL, argv[1]);
	for (int i = 0; i < count; i++) {
		receive_text(socket, text);
		if (!watch)
			watch = zmq_stopwatch_start();
		if (sscanf(text, "%d %d", &worker, &task) != 2 || worker < 1 || worker > workers)
			refuse("a result is no worker's");
		if (task < 0 || task >= count || done[task]++)
			refuse("a result is no task's, or comes twice");
		by[worker]++;
	}
	/* From the first result to the last. */
	printf("Total elapsed time: %lu msec\n", zmq_stopwatch_stop(watch) / 1000);
	for (worker = 1; worker <= workers; worker++)
		printf("worker %d: %d tasks\n", worker, by[worker]);
	return finish(context, socket, NULL);
}
