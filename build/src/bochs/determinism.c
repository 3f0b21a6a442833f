/*
 * Preloaded into Bochs, so that a run repeats bit for bit.
 *
 * Bochs 2.7 takes two things from the host that change from run to run: the seed of rand(), from which RDRAND and
 * RDSEED are served, and the time of day, which drives timers such as the screen's refresh. Here the seed stays libc's
 * default, and the clock stands still: Bochs scales all its timers by what it takes for the speed of the host.
 */
#include <sys/time.h>
#include <time.h>

/* 1 January 2000: the same start as `time0` in the emulator's configuration. */
static const time_t SECONDS = 946684800;

void srand(unsigned seed)
{
    (void)seed;
}

int gettimeofday(struct timeval *now, void *zone)
{
    (void)zone;
    now->tv_sec = SECONDS;
    now->tv_usec = 0;
    return 0;
}

time_t time(time_t *now)
{
    if (now)
        *now = SECONDS;
    return SECONDS;
}
