/*
 * Preloaded into Bochs, so that a run repeats bit for bit.
 *
 * Bochs 2.7 takes two things from the host that change from run to run: the seed of rand(), from which RDRAND and
 * RDSEED are served, and the time of day, which drives timers such as the screen's refresh. Here the seed stays libc's
 * default, and every question about the time moves a made-up clock by 100 microseconds.
 */
#include <sys/time.h>
#include <time.h>

/* 1 January 2000: the same start as `time0` in the emulator's configuration. */
static unsigned long long microseconds = 946684800ULL * 1000000ULL;

void srand(unsigned seed)
{
    (void)seed;
}

int gettimeofday(struct timeval *now, void *zone)
{
    (void)zone;
    microseconds += 100;
    now->tv_sec = (time_t)(microseconds / 1000000);
    now->tv_usec = (suseconds_t)(microseconds % 1000000);
    return 0;
}

time_t time(time_t *now)
{
    time_t seconds = (time_t)(microseconds / 1000000);
    if (now)
        *now = seconds;
    return seconds;
}
