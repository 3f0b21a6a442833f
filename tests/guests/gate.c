/* What a guest with one device finds where others have theirs: nothing. It owns an 82540EM, 00:03.0 of the machine and
 * 00:01.0 of its own bus; tests/systems/gate.toml says who has the others. The BIOS of the board gives ports in the order
 * of the slots, and every card as many as an 82540EM has: the owner's first before this guest's, then those of the owner's
 * second and of both of the intruder's. How many that is differs between versions of the emulator. */
#include "guest.h"

enum { ONES = 0xffffffff };
/* Of this guest: configuration space of its function, memory of its card. An NE2000 has 32 ports. */
enum { OWN = 0x80000800, MEMORY = 0xc0000000, MEMORY_SIZE = 0x20000, NE2000_PORTS = 32 };
/* The first port of its card, and how many it has. */
static u32 ports, ports_size;
/* Registers of configuration space. */
enum { ID = 0, COMMAND = 4, BAR0 = 0x10, BAR1 = 0x14, POINTER = 0x34 };
/* EEPROM read register of the card (manual 317453, section 13.4.4): word, start; data. */
enum { EEPROM_READ = 0x14, START = 1 };

static u32 config(u32 function, u32 offset) {
	out32(0xcf8, function | offset);
	return in32(0xcfc);
}

static void set_config(u32 function, u32 offset, u32 value) {
	out32(0xcf8, function | offset);
	out32(0xcfc, value);
}

static volatile u32 *memory(u32 offset) {
	return (volatile u32 *)(MEMORY + offset);
}

/* The hardware address of its card, by registers at an address. */
static void own_card(u32 at) {
	static const u16 address[] = {0x5452, 0x1200, 0x5734};
	for (u32 word = 0; word < 3; word++) {
		*(volatile u32 *)(at + EEPROM_READ) = word << 8 | START;
		expect("its address", *(volatile u32 *)(at + EEPROM_READ) >> 16, address[word]);
	}
}

static void own_device(void) {
	expect("its ID", config(OWN, ID), 0x100e8086);
	expect("its memory", config(OWN, BAR0), MEMORY);
	expect("its ports", config(OWN, BAR1), ports | 1);
	own_card(MEMORY);
}

/* Every other function of bus 0, and all functions of some buses. */
static void foreign_functions(void) {
	static const u8 buses[] = {0, 1, 2, 0x7f, 0xff};
	u32 found = 0;
	for (u32 i = 0; i < sizeof buses; i++) {
		for (u32 place = 0; place < 256; place++) {
			u32 function = 0x80000000 | buses[i] << 16 | place << 8;
			if (function == 0x80000000 || function == OWN) continue;
			if (config(function, ID) != ONES) found++;
			set_config(function, COMMAND, 7);
			set_config(function, BAR0, 0x100000);
		}
	}
	expect("functions that others have", found, 0);
	expect("its function without the enable bit", config(OWN & 0x7fffffff, ID), ONES);
}

/* To where nothing is, to where the machine has the owner's card, over RAM and over the local APIC; its ports over the
 * owner's. It finds its own card there, or nothing; and bus master. */
static void own_function(void) {
	static const u32 bases[] = {0x40000000, 0xc0020000, 0x100000, 0xfee00000};
	u32 ram = *(volatile u32 *)0x100000;
	for (u32 i = 0; i < 4; i++) {
		set_config(OWN, BAR0, bases[i]);
		expect("its memory, moved", config(OWN, BAR0), bases[i]);
		expect("where its memory was", *memory(EEPROM_READ), ONES);
		if (i < 2) own_card(bases[i]);
	}
	expect("RAM under its memory", *(volatile u32 *)0x100000, ram);
	expect("the local APIC under its memory", *(volatile u32 *)0xfee00030, 0x00050015);
	set_config(OWN, BAR0, MEMORY);
	own_card(MEMORY);
	set_config(OWN, BAR1, (ports - ports_size) | 1);
	expect("its ports, moved", config(OWN, BAR1), (ports - ports_size) | 1);
	expect("where its ports were", in32(ports), ONES);
	set_config(OWN, BAR1, ports | 1);
	/* Without decoding nothing is left, on a PC; here it stays, and nothing goes wrong on the real bus. */
	set_config(OWN, COMMAND, 0);
	expect("its command, nothing", config(OWN, COMMAND) & 7, 0);
	own_card(MEMORY);
	set_config(OWN, COMMAND, 3);
	set_config(OWN, BAR0, ONES);
	expect("the size of its memory", config(OWN, BAR0), -MEMORY_SIZE);
	set_config(OWN, BAR0, MEMORY);
	set_config(OWN, COMMAND, 7);
	expect("its command", config(OWN, COMMAND) & 7, 3);
	out32(0xcf8, OWN | COMMAND);
	out8(0xcfc, 7);
	expect("its command, by bytes", config(OWN, COMMAND) & 7, 3);
	expect("its capabilities", config(OWN, POINTER), 0);
}

/* Ports of the owner, the intruder, the disks, the bus master of the disks, the power switch. */
static void foreign_ports(void) {
	u32 before = ports - ports_size, behind = ports + ports_size, last = ports + 3 * ports_size;
	u32 ranges[][2] = {{before, before + NE2000_PORTS - 1}, {behind, last + NE2000_PORTS - 1}, {0x1f0, 0x1f7},
	                   {0x170, 0x177}, {0x3f6, 0x3f6}, {0xc000, 0xc03f}, {0xb000, 0xb03f}, {0x8900, 0x8900}};
	for (u32 i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
		for (u32 port = ranges[i][0]; port <= ranges[i][1]; port++) {
			out8(port, 0x21);
			expect("a port of another's", in8(port), 0xff);
		}
		out32(ranges[i][0], 0);
		expect("four ports of another's", in32(ranges[i][0]), ONES);
	}
	/* Half its own, half the owner's. */
	expect("four ports across the end", in32(ports + ports_size - 2), ONES);
	out32(ports + ports_size - 2, 0);
	expect("two ports across the beginning", in16(ports - 1), 0xffff);
}

/* The cards behind its own: the owner's and the intruder's. */
static void foreign_memory(void) {
	for (u32 at = MEMORY_SIZE; at < 3 * MEMORY_SIZE; at += 0x1000) {
		*memory(at) = 0;
		expect("memory of another's", *memory(at), ONES);
	}
	*memory(MEMORY_SIZE + EEPROM_READ) = START;
	expect("the address of another's card", *memory(MEMORY_SIZE + EEPROM_READ), ONES);
	/* Half its own, half the owner's: what the owner's half reads is not the owner's register. */
	expect("memory across the end", *memory(MEMORY_SIZE - 2) >> 16, 0xffff);
	*memory(MEMORY_SIZE - 2) = 0;
	/* Its version is another one. */
	expect("not the real local APIC", *(volatile u32 *)0xfee00030, 0x00050015);
	expect("the real I/O APIC", *(volatile u32 *)0xfec00010, ONES);
}

static void find_ports(void) {
	ports = config(OWN, BAR1) & 0xfffc;
	set_config(OWN, BAR1, ONES);
	ports_size = -(config(OWN, BAR1) & 0xfffc) & 0xffff;
	set_config(OWN, BAR1, ports | 1);
	FACT("ports", ports);
}

static void guest(void) {
	find_ports();
	own_device();
	for (u32 round = 0; round < 3; round++) {
		foreign_functions();
		own_function();
		foreign_ports();
		foreign_memory();
	}
	own_device();
}
