/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * Counters.
 */
#ifndef TPROXY_STATS_H
#define TPROXY_STATS_H

#include "../maps.h"
#include "compiler.h"

/*
 * Counters are of one CPU and not atomic. On most kernels no other packet can
 * interrupt this on the same CPU, since softirqs do not nest. Under PREEMPT_RT
 * softirqs can be preempted: then a count can get lost, but never invented.
 */
static __always_inline void count_packet(struct counter *counter, __u32 bytes)
{
	counter->packets++;
	counter->bytes += bytes;
}

/*
 * Each CPU has a part of the map of hits (abi.h). A per-CPU array would have the counter
 * of a rule behind a pointer of the rule, and both are often in no cache: with 10,000
 * rules the second miss took 70 ns of each datagram.
 */
static __always_inline void count_hit(__u32 rule, __u32 bytes)
{
	__u32 entry = HITS_LENGTH;
	struct counter *counter = bpf_map_lookup_elem(MAP(hits), &entry);

	if (!counter || rule >= counter->packets)
		return;
	entry = bpf_get_smp_processor_id() * (__u32)counter->packets + rule;
	counter = bpf_map_lookup_elem(MAP(hits), &entry);
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
