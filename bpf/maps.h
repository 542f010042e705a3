/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * The only list of the maps: name, kernel type, key size, value size, entries,
 * flags. The program refers to each by a placeholder (enum map_slot), which the
 * loader replaces by a file descriptor. bpf/gen_layout.py reads the list for
 * user space, which creates, checks and pins the maps. So the compiler creates
 * no map and needs no privilege. A map of hits has these entries for each
 * CPU, or more.
 */
#ifndef TPROXY_MAPS_H
#define TPROXY_MAPS_H

#include "abi.h"

enum map_type {
	TYPE_HASH = 1,
	TYPE_ARRAY = 2,
	TYPE_PERCPU_ARRAY = 6,
	TYPE_LRU_HASH = 9,
	TYPE_ARRAY_OF_MAPS = 12,
	TYPE_SOCKHASH = 18,
};

enum map_flag {
	FLAG_NONE = 0,
	FLAG_NO_PREALLOC = 1 << 0,
	FLAG_MMAPABLE = 1 << 10,
};

/* The inner maps of the image map are arrays of pages. Image maps differ in their entries only. */
#define TPROXY_MAPS(MAP)                                                                          \
	MAP(image, TYPE_ARRAY_OF_MAPS, 4, 4, GENERATIONS, FLAG_NONE)                              \
	MAP(policy, TYPE_ARRAY, 4, sizeof(struct policy), POLICIES, FLAG_NONE)                    \
	MAP(ifindex_ip_map, TYPE_ARRAY, 4, sizeof(struct interface_addresses), INTERFACES,        \
	    FLAG_NONE)                                                                            \
	MAP(own_addresses, TYPE_HASH, 16, 4, OWN_ADDRESSES, FLAG_NO_PREALLOC)                     \
	MAP(reserved_ports, TYPE_ARRAY, 4, sizeof(struct reserved_ports), 1, FLAG_NONE)           \
	MAP(displaced, TYPE_HASH, sizeof(struct displaced_key), 4, DISPLACED, FLAG_NONE)          \
	MAP(session_cache, TYPE_ARRAY, 4, sizeof(struct session_set), SESSION_SETS, FLAG_NONE)    \
	MAP(flows_own, TYPE_LRU_HASH, sizeof(struct flow_key), sizeof(struct flow_state), FLOWS,  \
	    FLAG_NONE)                                                                            \
	MAP(flows_forwarded, TYPE_LRU_HASH, sizeof(struct flow_key), sizeof(struct flow_state),   \
	    FLOWS, FLAG_NONE)                                                                     \
	MAP(flows_outside, TYPE_LRU_HASH, sizeof(struct flow_key), sizeof(struct flow_state),     \
	    FLOWS, FLAG_NONE)                                                                     \
	MAP(fragments, TYPE_LRU_HASH, sizeof(struct fragment_key), sizeof(struct fragment_state), \
	    FRAGMENTS, FLAG_NONE)                                                                 \
	MAP(listeners, TYPE_SOCKHASH, sizeof(struct listener_key), 8, LISTENERS, FLAG_NONE)       \
	MAP(wanted_sockets, TYPE_LRU_HASH, sizeof(struct listener_key), 8, LISTENERS_WANTED,      \
	    FLAG_NONE)                                                                            \
	MAP(hits, TYPE_ARRAY, 4, sizeof(struct counter), HIT_COUNTERS, FLAG_MMAPABLE)             \
	MAP(reasons, TYPE_PERCPU_ARRAY, 4, sizeof(struct interface_counters), INTERFACE_COUNTERS, \
	    FLAG_NONE)                                                                            \
	MAP(drops, TYPE_LRU_HASH, sizeof(struct drop_key), sizeof(struct drop), DROPS, FLAG_NONE) \
	MAP(drop_budget, TYPE_PERCPU_ARRAY, 4, sizeof(struct drop_budget), 1, FLAG_NONE)          \
	MAP(meta, TYPE_ARRAY, 4, sizeof(struct meta), 1, FLAG_NONE)

/* The placeholders are above all file descriptors of a compiler process. */
enum map_slot {
	MAP_SLOT_FIRST = 0x7f000000,
#define SLOT(name, type, key, value, entries, flags) SLOT_##name,
	TPROXY_MAPS(SLOT)
#undef SLOT
};

#define MAP(name) ((void *)bpf_pseudo_fd(BPF_PSEUDO_MAP_FD, SLOT_##name))

#endif
