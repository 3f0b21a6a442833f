/* The other guest of state.c. */
#include "state.c"
