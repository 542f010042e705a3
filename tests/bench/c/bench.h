/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Included by each measured program: the product itself, a table of random
 * flows, and SETTLED(), which keeps the compiler from removing the work.
 *
 * programs.py defines TARGETS and SLOT_ names for the maps used here.
 */
#ifndef TPROXY_BENCH_H
#define TPROXY_BENCH_H

/* The product's entry point becomes a function that a measured program can call. */
#define tproxy_splicer static __always_inline whole_program
#include "tproxy_splicer.c"
#undef tproxy_splicer

/* One packet of the table; addresses and ports in network order. Python: targets.py. */
struct target {
	__u32 destination;
	__u32 source;
	__be16 port;
	__be16 source_port;
	__u8 protocol;
	__u8 padding[7]; /* elements of a mapped array have a multiple of 8 bytes */
	__u32 answer;	 /* of the measured program */
};

struct progress {
	__u64 runs;
	__u64 wrong;
};

/* All of `value` is in memory here: the compiler can neither skip nor postpone the stores. */
#define SETTLED(value) asm volatile("" : : "r"(value) : "memory")

static __always_inline struct progress *progress(void)
{
	__u32 first = 0;

	return bpf_map_lookup_elem(MAP(progress), &first);
}

/* The next packet of the table, round and round. */
static __always_inline struct target *next_target(__u32 *index)
{
	struct progress *at = progress();

	if (!at)
		return 0;
	*index = at->runs++ & (TARGETS - 1);
	return bpf_map_lookup_elem(MAP(targets), index);
}

static __always_inline void fill_flow(struct flow *flow, const struct target *target)
{
	addr_set_v4mapped(&flow->saddr, target->source);
	addr_set_v4mapped(&flow->daddr, target->destination);
	flow->sport = bpf_ntohs(target->source_port);
	flow->dport = bpf_ntohs(target->port);
	flow->protocol = target->protocol;
	SETTLED(flow);
}

#endif
