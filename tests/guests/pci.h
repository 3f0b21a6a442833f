/* The first modelled function of the guest's bus, by mechanism 1, and memory by its address. */
#include "guest.h"

enum { DEVICE = 17 };

#define AT8(at) (*(volatile u8 *)(uword)(at))
#define AT16(at) (*(volatile u16 *)(uword)(at))
#define AT32(at) (*(volatile u32 *)(uword)(at))

static u32 config(u32 reg) {
	out32(0xcf8, 0x80000000 | DEVICE << 11 | reg);
	return in32(0xcfc);
}

static void configure(u32 reg, u32 value) {
	config(reg);
	out32(0xcfc, value);
}
