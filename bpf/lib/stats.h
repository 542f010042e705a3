/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * Counters.
 */
#ifndef TPROXY_STATS_H
#define TPROXY_STATS_H

#include "../maps.h"
#include "compiler.h"

/*
 * Counters are per CPU and not atomic. On most kernels no other packet can
 * interrupt this on the same CPU, since softirqs do not nest. Under PREEMPT_RT
 * softirqs can be preempted: then a count can get lost, but never invented.
 */
static __always_inline void count_packet(struct counter *counter, __u32 bytes)
{
	counter->packets++;
	counter->bytes += bytes;
}

static __always_inline void count_hit(__u32 rule, __u32 bytes)
{
	struct counter *counter = bpf_map_lookup_elem(MAP(hits), &rule);

	if (counter)
		count_packet(counter, bytes);
}

static __always_inline void count_outcome(__u32 interface_slot, enum reason reason,
					  enum verdict verdict, __u32 bytes)
{
	struct interface_counters *interface = bpf_map_lookup_elem(MAP(reasons), &interface_slot);
	__u32 outcome = reason * VERDICTS + verdict;

	barrier_var(outcome); /* the compiler knows the bound, and the verifier wants to see it */
	if (interface && outcome < OUTCOMES)
		count_packet(&interface->outcomes[outcome], bytes);
}

#endif
