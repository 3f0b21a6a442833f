#pragma once
/* Needs stdint.h, which it does not include. */
typedef struct { uint64_t id, len; } seL4_BootInfoHeader;
