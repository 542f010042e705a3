/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * The maps, once: name, kernel type, key size, value size, entries, flags.
 * The program sees each as a placeholder (enum map_slot) that the loader
 * replaces by a file descriptor; bpf/gen_layout.py reads the same list for
 * user space, which makes, checks and pins them.  So the compiler creates no
 * map and needs no privilege.
 */
#ifndef TPROXY_MAPS_H
#define TPROXY_MAPS_H

#include "abi.h"

enum map_type {
	TYPE_ARRAY = 2,
	TYPE_PERCPU_ARRAY = 6,
	TYPE_ARRAY_OF_MAPS = 12,
};

enum map_flag {
	FLAG_NONE = 0,
	FLAG_MMAPABLE = 1 << 10,
};

/* The image map's inner maps are arrays of pages; only their entries differ between image maps. */
#define TPROXY_MAPS(MAP) \
	MAP(image,          TYPE_ARRAY_OF_MAPS, 4, 4,                                  GENERATIONS,     FLAG_NONE) \
	MAP(policy,         TYPE_ARRAY,         4, sizeof(struct policy),              POLICIES,        FLAG_NONE) \
	MAP(ifindex_ip_map, TYPE_ARRAY,         4, sizeof(struct interface_addresses), INTERFACES,      FLAG_NONE) \
	MAP(hits,           TYPE_PERCPU_ARRAY,  4, sizeof(struct counter),             HIT_COUNTERS,    FLAG_NONE) \
	MAP(reasons,        TYPE_PERCPU_ARRAY,  4, sizeof(struct counter),             REASON_COUNTERS, FLAG_NONE) \
	MAP(meta,           TYPE_ARRAY,         4, sizeof(struct meta),                1,               FLAG_NONE)

/* Placeholders start where no file descriptor of a compiler process can be. */
enum map_slot {
	MAP_SLOT_FIRST = 0x7f000000,
#define SLOT(name, type, key, value, entries, flags) SLOT_##name,
	TPROXY_MAPS(SLOT)
#undef SLOT
};

#define MAP(name) ((void *)bpf_pseudo_fd(1, SLOT_##name))

#endif
