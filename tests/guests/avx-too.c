/* The other guest of avx.c. */
#include "avx.c"
