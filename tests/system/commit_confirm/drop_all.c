/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A program with our name and our maps that drops every packet; the watchdog must roll it back. */
#define tproxy_splicer real_program
#include "tproxy_splicer.c"
#undef tproxy_splicer

int tproxy_splicer(struct __sk_buff *skb)
{
	real_program(skb);
	return TC_ACT_SHOT;
}
