/* Has the other end of the channel `strings` reverse each line of the standard input. */
#include <stdio.h>
#include <string.h>

#include "portcullis-channel.h"

enum { LONGEST = 4096 };

int main(void)
{
	static char line[LONGEST], answer[LONGEST];
	struct channel channel;
	int error = channel_open(&channel, "strings");

	if (error) {
		fprintf(stderr, "string_reverse: channel `strings`: %s\n", strerror(-error));
		return 1;
	}
	/* An answer to somebody who did not wait for it. */
	channel_take(&channel);
	while (fgets(line, sizeof line, stdin)) {
		line[strcspn(line, "\n")] = 0;
		error = channel_write(&channel, 0, 0, line, strlen(line) + 1);
		if (!error)
			channel_emit(&channel);
		if (error || channel_wait(&channel, 10000) <= 0) {
			fprintf(stderr, "string_reverse: %s\n", error ? strerror(-error) : "nobody answers");
			return 1;
		}
		error = channel_read(&channel, 1, 0, answer, sizeof answer);
		if (error) {
			fprintf(stderr, "string_reverse: %s\n", strerror(-error));
			return 1;
		}
		answer[sizeof answer - 1] = 0;
		puts(answer);
		fflush(stdout);
	}
	return 0;
}
