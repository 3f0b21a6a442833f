/* The same of a guest in long mode. */
#include "board.c"
