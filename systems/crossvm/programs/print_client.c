/* Has the other end of the channel `print` print each argument. */
#include <stdio.h>
#include <string.h>

#include "portcullis-channel.h"

int main(int count, char **words)
{
	struct channel channel;
	int error = channel_open(&channel, "print");

	if (error) {
		fprintf(stderr, "print_client: channel `print`: %s\n", strerror(-error));
		return 1;
	}
	/* An answer to somebody who did not wait for it. */
	channel_take(&channel);
	for (int n = 1; n < count; n++) {
		error = channel_write(&channel, 0, 0, words[n], strlen(words[n]) + 1);
		if (error) {
			fprintf(stderr, "print_client: `%s`: %s\n", words[n], strerror(-error));
			return 1;
		}
		channel_emit(&channel);
		/* The next one has to wait until this one is read. */
		if (channel_wait(&channel, 10000) <= 0) {
			fprintf(stderr, "print_client: nobody answers\n");
			return 1;
		}
	}
	return 0;
}
