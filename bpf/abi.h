/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * The ABI between the program and user space: the structs that both sides
 * access, the limits and the constants.
 *
 * This is plain C, so that a host compiler can report the layout:
 * bpf/gen_layout.py writes it as a Python module, and a test compares both.
 *
 * 1. Constants are named enums, never #define: the generator reads enums.
 * 2. An address has 16 bytes in network order. IPv4 is mapped (::ffff:a.b.c.d).
 * 3. Padding is explicit and zero.
 * 4. A change here is a new LAYOUT: the maps are pinned under v<LAYOUT>/.
 */
#ifndef TPROXY_ABI_H
#define TPROXY_ABI_H

#include <linux/types.h>

#include "abi_flows.h"

enum layout {
	LAYOUT = 3,
};

enum limits {
	/* slots of the address table and of each half of the policy table, a power of two */
	INTERFACES = 256,
	/* INTERFACES * GENERATIONS: the policies in force, then the previous ones */
	POLICIES = 512,
	/* entries of both tables that can stand outside of their home slots */
	DISPLACED = 512,
	UNKNOWN_SLOT = 256,    /* counters of an interface without a policy */
	ADDRESSES = 128,       /* recorded addresses per interface */
	OWN_ADDRESSES = 65536, /* of all interfaces, with their broadcast addresses */
	MANAGEMENT = 64,       /* management entries per interface */
	INTERFACE_NAME = 16,   /* IFNAMSIZ */
	RULES = 131071,	       /* rule slots 1..RULES; slot 0 means "no rule" */
	/* slots of the outer image map, halves of the policy table: current, previous */
	GENERATIONS = 2,
	NO_GENERATION = 2, /* no slot */
};

/* ---- the rule image ------------------------------------------------------- */

/* An image is an array of u32 words in pages of 1 KiB. */
enum image {
	PAGE_WORDS = 256,
	PAGE_BYTES = 1024,
	IMAGE_MAGIC = 0x54505331,
	IMAGE_FORMAT = 3,
	IMAGE_PAGES_MIN = 1024,	  /* a new image map holds 1 MiB */
	IMAGE_PAGES_MAX = 262144, /* 256 MiB */
	/* first word of a group directory in its page; the directory of group 0 is in page 0 */
	GROUP_BASE = 16,
	GROUP_WORDS = 10,
	/* Pages 1 to GROUP_PAGES: pairs (ifindex, page of the directory of its group). */
	GROUP_PAGES = 4,
	PAIRS_PER_PAGE = 128,
	PROBES = 8,	       /* neighbouring pairs in which an ifindex can be */
	GROUP_PAGE_SHIFT = 30, /* of ifindex * HEADER_GROUP_SEED: the page */
	GROUP_PAIR_SHIFT = 23, /* the first of these pairs, modulo PAIRS_PER_PAGE */
	ACTION_WORDS = 8,
	ACTIONS_PER_PAGE = 32,
};

/* Words of page 0. */
enum header_word {
	HEADER_MAGIC = 0,
	HEADER_FORMAT = 1,
	HEADER_GENERATION = 2,
	HEADER_PAGES = 3,   /* pages in use */
	HEADER_RULES = 4,   /* records among the canonical rules */
	HEADER_SLOTS = 5,   /* rule slots with room for an action, slot 0 included */
	HEADER_GROUPS = 6,  /* interface groups; 1: all interfaces have the same rules */
	HEADER_ACTIONS = 7, /* page of the action of rule slot 0 */
	HEADER_SOURCE = 8,  /* word where the canonical rules begin */
	HEADER_SOURCE_BYTES = 9,
	HEADER_SOURCE_CRC = 10,	 /* CRC-32 (zlib) of these bytes */
	HEADER_JOURNAL = 11,	 /* word where changes of the rules follow; 0: none can */
	HEADER_JOURNAL_END = 12, /* the word after the journal */
	/* 1 while a change is written: the image can then be in neither state */
	HEADER_CHANGING = 13,
	/* digest of all pages in use; unknown if 0 or while HEADER_CHANGING is 1 */
	HEADER_DIGEST = 14,
	/* an odd factor, so that each ifindex stands within PROBES pairs of its place */
	HEADER_GROUP_SEED = 15,
};

/*
 * Words of a group directory: 0 = no rule of that family and protocol. Protocols without
 * ports share a word: their number stands in the place of the port.
 */
enum group_word {
	GROUP_IPV4_TCP = 0, /* page of a root of 65536 words, indexed by address >> 16 */
	GROUP_IPV4_UDP = 1,
	GROUP_IPV4_PORTLESS = 2,
	GROUP_IPV6_TCP = 3, /* a node */
	GROUP_IPV6_UDP = 4,
	GROUP_IPV6_PORTLESS = 5,
	/* a node: does a rule that splices or drops cover the destination, on any port? */
	GROUP_IPV4_TCP_COVER = 6,
	GROUP_IPV4_UDP_COVER = 7,
	GROUP_IPV6_TCP_COVER = 8,
	GROUP_IPV6_UDP_COVER = 9,
};

/*
 * A node is one word: [31:30] tag, [27:23] the packet field that it compares.
 * LEAF    [29:0] rule slot, 0 = no match
 * HIGH    [22:0] page; next = page[x >> 8]
 * SEARCH  [29:28] width w, n = 4 << w keys; [22:0] offset in units of four words:
 *         u16 key[n] ascending, key[0] = 0, padded with 0xffff, then u32 value[n]
 * LOW     [22:0] page; next = page[x & 255]
 */
enum node_tag {
	NODE_LEAF = 0,
	NODE_HIGH = 1,
	NODE_SEARCH = 2,
	NODE_LOW = 3,
};

enum node_bits {
	NODE_TAG_SHIFT = 30,
	NODE_WIDTH_SHIFT = 28,
	NODE_WIDTH_MASK = 3,
	NODE_FIELD_SHIFT = 23,
	NODE_FIELD_MASK = 31,
	NODE_POINTER_MASK = 0x7fffff,
	NODE_SLOT_MASK = 0x3fffffff,
	UNIT_WORDS = 4, /* a SEARCH pointer counts units of 16 bytes */
	UNIT_SHIFT = 4,
	UNITS_PER_PAGE_SHIFT = 6,
};

/* The fields of a packet, in host order. */
enum field {
	FIELD4_DADDR_LOW = 0,
	FIELD4_DPORT = 1,
	FIELD4_SADDR_HIGH = 2,
	FIELD4_SADDR_LOW = 3,
	FIELD6_DADDR = 0, /* 0..7, most significant first */
	FIELD6_SADDR = 8, /* 8..15 */
	FIELD6_DPORT = 16,
};

/* In a lookup from GROUP_IPV4_TCP_COVER or _UDP_COVER, which has no port and begins without a root. */
enum cover_field {
	COVER4_DADDR_LOW = 0,
	COVER4_DADDR_HIGH = 1,
};

/* Nodes that a lookup can visit. */
enum lookup_steps {
	LOOKUP4_STEPS = 40,
	LOOKUP6_STEPS = 64, /* of the program's loop, which serves both families */
};

enum action_kind {
	ACTION_PASS = 1,
	ACTION_DROP = 2,
	ACTION_TPROXY = 3,
};

enum action_flag {
	ACTION_PASS_WHEN_MISSING = 1, /* on_missing: pass */
	ACTION_CHECK_LISTENER = 2,    /* only the socket with the cookie `listener` gets packets */
	ACTION_ONE_ADDRESS = 4,	      /* the destination of the rule is one address */
	/* the destination lies within one range of ADDRESS_SPECIAL */
	ACTION_SPECIAL_RANGE = 8,
	ACTION_CHECK_USER = 16, /* only sockets of the user `user` get packets */
	/* a rule of a router for one address: reserved ports of this host stay with this host */
	ACTION_SPARES_RESERVED = 32,
	ACTION_DROP_FRAGMENTS = 64, /* fragments: drop */
	/* fragments: always; user space keeps the listener in the map listeners */
	ACTION_KEEP_LISTENER = 128,
};

/* The action of a rule, in the image, indexed by rule slot. */
struct action {
	__u8 tproxy_ip[16];
	__be16 tproxy_port;
	__u8 kind;	/* enum action_kind */
	__u8 flags;	/* enum action_flag */
	__u32 user;	/* the proxy's user, with ACTION_CHECK_USER */
	__u64 listener; /* SO_COOKIE of the proxy's socket; 0, which no socket has: not known yet */
};

/* ---- the policy of an interface ------------------------------------------- */

enum policy_flag {
	POLICY_DEFAULT_PASS = 1,
	POLICY_ALLOW_SSH = 2,
	POLICY_ALLOW_ECHO = 4,
	POLICY_ACCEPT_UNSPEC = 8, /* pass is TC_ACT_UNSPEC: later programs of the hook run */
	POLICY_LOOPBACK = 16,	  /* drop nothing */
	POLICY_LAYER3 = 32,	  /* no Ethernet header (tun, WireGuard) */
	POLICY_TRACK = 64,	  /* flows that this host began make sessions */
	POLICY_TRACK_ALL = 128,	  /* with POLICY_TRACK: forwarded flows too */
	POLICY_DROP_LINK = 256,	  /* frames that are neither IP nor ARP are dropped */
	/* a port of a bridge or bond: frames for other hosts are judged, and none is spliced */
	POLICY_PORT = 512,
	POLICY_AUDIT = 1024, /* the default action passes, and counts its drops as would-be drops */
};

struct management {
	__u8 source[16];
	__u8 source_length; /* 0..128, of the mapped address */
	__u8 protocol;
	__be16 port; /* a protocol without ports has its number here, as flows have */
	__u32 reserved;
};

/*
 * A table of interfaces. An entry stands in its home slot, ifindex % INTERFACES, or
 * in the slot that the map displaced has for it.
 */
enum interface_table {
	TABLE_POLICY = 0,
	TABLE_ADDRESSES = 1,
};

struct displaced_key {
	__u32 table; /* enum interface_table */
	__u32 ifindex;
};

/*
 * Found by ifindex, as enum interface_table says. ifindex 0: free.
 * The previous policy of slot s is in slot s + INTERFACES. It is in force from
 * the deadline until the operator confirms or the change is rolled back. Its
 * own deadline has no meaning.
 */
struct policy {
	__u32 ifindex;
	__u32 flags; /* enum policy_flag */
	__u32 mark;
	__u32 mark_mask;
	__u64 deadline; /* CLOCK_MONOTONIC ns; 0 = confirmed */
	__u32 management_count;
	__u32 generation; /* of the image that goes with it; NO_GENERATION: no rules */
	struct management management[MANAGEMENT];
};

/* ---- the addresses of an interface ----------------------------------------- */

struct interface_addresses {
	__u32 ifindex; /* found as struct policy is */
	__u32 count;
	char name[INTERFACE_NAME];
	__u8 address[ADDRESSES][16];
};

/* The values of the map own_addresses, whose keys are addresses of this host. */
enum address_kind {
	ADDRESS_OWN = 1,
	ADDRESS_GROUP = 2,   /* in the map: the broadcast address of the subnet of an interface */
	ADDRESS_SPECIAL = 4, /* in no map: addr_kind() in lib/addr.h */
};

/* ---- the reserved ports ------------------------------------------------------ */

enum reserved_limits {
	RESERVED_BYTES = 8192, /* a bit for each port of a protocol */
};

/* The ports of this host that no rule of an OpenZiti router takes: bit port & 7 of byte port >> 3. */
struct reserved_ports {
	__u8 tcp[RESERVED_BYTES];
	__u8 udp[RESERVED_BYTES];
};

/* ---- counters, all per CPU -------------------------------------------------- */

struct counter {
	__u64 packets;
	__u64 bytes;
};

enum reason {
	REASON_OTHER = 0, /* a packet of a kind without a row of its own: the default action */
	REASON_ARP = 1,
	REASON_VLAN = 2,
	REASON_MALFORMED = 3,
	REASON_MANAGEMENT = 4,
	REASON_DHCP = 5,
	REASON_SSH = 6,
	REASON_ICMP = 7,
	REASON_FRAGMENT = 8,
	REASON_ESTABLISHED = 9,
	REASON_RULE = 10,
	REASON_LOCAL = 11,
	REASON_SPLICED = 12,
	REASON_NO_LISTENER = 13,
	REASON_ASSIGN_ERROR = 14,
	REASON_DEFAULT = 15, /* TCP or UDP that no rule matched */
	REASON_WRONG_LISTENER = 16,
	REASON_UNDELIVERABLE = 17, /* no socket can get what the rule would splice */
	REASON_LINK = 18,	   /* neither IPv4 nor IPv6 */
	REASON_SESSION = 19,	   /* answers a flow that left by a tracked interface */
	REASONS = 20,
};

enum verdict {
	VERDICT_PASS = 0,
	VERDICT_DROP = 1,
	VERDICT_WOULD_DROP = 2, /* passed: an audited default action does not drop */
	VERDICTS = 3,
};

enum counters {
	OUTCOMES = 60,		  /* REASONS * VERDICTS */
	INTERFACE_COUNTERS = 257, /* INTERFACES + 1 */
	/* Slots of rules in a new map of hits, for each CPU. It grows with the image, up to RULES + 1. */
	HIT_COUNTERS = 8192,
	/*
	 * The entry of hits whose `packets` are the slots of one CPU: slot 0, which no rule has.
	 * The counter of a rule is entry CPU * slots + slot.
	 */
	HITS_LENGTH = 0,
};

/*
 * The counters of one interface: reason * VERDICTS + verdict. The kernel allocates each
 * entry of a per-CPU array by itself, so few large entries are made sooner than many small.
 */
struct interface_counters {
	struct counter outcomes[OUTCOMES];
};

/* ---- the drop log ------------------------------------------------------------- */

enum drop_log {
	DROPS = 8192, /* entries; the least recently used one makes place for a new one */
	/* A CPU notes at most DROPS_PER_WINDOW packets in a window of 1 << DROP_WINDOW_SHIFT jiffies. */
	DROPS_PER_WINDOW = 64,
	DROP_WINDOW_SHIFT = 6,
};

struct drop_key {
	__u8 source[16];
	__u8 destination[16]; /* both all zeros: the packet has no flow */
	__u32 ifindex;
	__u32 rule;  /* slot in the image of the packet, 0 = none */
	__be16 port; /* of the destination; without meaning for a protocol without ports */
	__u8 protocol;
	__u8 reason;  /* enum reason */
	__u8 verdict; /* VERDICT_DROP or VERDICT_WOULD_DROP */
	__u8 reserved[3];
};

/* Times are CLOCK_MONOTONIC ns. */
struct drop {
	__u64 first_seen;
	__u64 last_seen;
	__u64 packets; /* those that were noted */
	__u32 answers; /* of a would-be drop: packets of the other side, but for the begin of a TCP handshake */
	__u32 refusals; /* of a would-be drop: RSTs and ICMP errors of the other side */
};

struct drop_budget {
	__u64 window; /* jiffies >> DROP_WINDOW_SHIFT */
	__u64 noted;  /* packets in that window */
};

/* ---- the description of the pinned program ---------------------------------- */

enum meta_size {
	BLOB_BYTES = 262144, /* room for the program's own blob */
};

struct meta {
	__u32 layout;
	__u32 instructions;
	__u32 blob_bytes;
	__u32 program_id;  /* the program that the other members describe */
	__u8 identity[32]; /* SHA-256 of sources, defines, function and compiler */
	__u8 source_sha256[32];
	__u8 blob[BLOB_BYTES]; /* so that a bigger image can be bound without a compiler */
};

/* Words of skb->cb that the program writes in a test run. */
enum trace_word {
	TRACE_REASON = 0, /* enum reason | enum verdict << 8 */
	TRACE_RULE = 1,	  /* rule slot */
	TRACE_ERROR = 2,  /* errno of bpf_sk_assign, negative */
};

/* fail_closed.c loads POLICY_PLACEHOLDER + i for the bytes 8 * i to 8 * i + 7 of its policy. */
enum policy_placeholder {
	POLICY_PLACEHOLDER = 0x7e000000,
};

enum default_mark {
	DEFAULT_MARK = 0x10000000,
	DEFAULT_MARK_MASK = 0x10000000,
};

_Static_assert(PAGE_BYTES == 4 * PAGE_WORDS, "a word is four bytes");
_Static_assert(1 << UNIT_SHIFT == 4 * UNIT_WORDS, "a unit is UNIT_WORDS words");
_Static_assert(PAGE_BYTES >> UNIT_SHIFT == 1 << UNITS_PER_PAGE_SHIFT, "units of a page");
_Static_assert(sizeof(struct action) == 4 * ACTION_WORDS, "struct action is ACTION_WORDS words");
_Static_assert(sizeof(struct management) == 24, "struct management");
_Static_assert(sizeof(struct policy) == 32 + 24 * MANAGEMENT, "struct policy");
_Static_assert(sizeof(struct interface_addresses) == 24 + 16 * ADDRESSES,
	       "struct interface_addresses");
_Static_assert(sizeof(struct counter) == 16, "struct counter");
_Static_assert(sizeof(struct meta) == 80 + BLOB_BYTES, "struct meta");
_Static_assert(POLICIES == INTERFACES * GENERATIONS, "each half has a slot for each interface");
_Static_assert(OUTCOMES == REASONS * VERDICTS, "one counter for each outcome");
_Static_assert(INTERFACE_COUNTERS == INTERFACES + 1, "UNKNOWN_SLOT has counters, too");
_Static_assert(GROUP_BASE + GROUP_WORDS <= PAGE_WORDS, "a group directory lies in its page");
_Static_assert((int)COVER4_DADDR_LOW == FIELD4_DADDR_LOW && (int)COVER4_DADDR_HIGH == FIELD4_DPORT,
	       "a cover lookup has the upper half of the destination in place of the port");
_Static_assert(GROUP_IPV4_TCP == 0 && GROUP_IPV6_UDP - GROUP_IPV6_TCP == GROUP_IPV4_UDP &&
		       GROUP_IPV6_PORTLESS - GROUP_IPV6_TCP == GROUP_IPV4_PORTLESS,
	       "both families have their protocols in the same order");
_Static_assert(GROUP_IPV4_UDP_COVER - GROUP_IPV4_TCP_COVER == GROUP_IPV4_UDP &&
		       GROUP_IPV6_UDP_COVER - GROUP_IPV6_TCP_COVER == GROUP_IPV4_UDP,
	       "covers have them in this order too");
_Static_assert((int)HEADER_GROUP_SEED < GROUP_BASE,
	       "the header ends before the directory of group 0");
_Static_assert(PAIRS_PER_PAGE * 2 == PAGE_WORDS, "a page of pairs is full");
_Static_assert(0xffffffff >> GROUP_PAGE_SHIFT == GROUP_PAGES - 1,
	       "the upper bits of the product are the page");
_Static_assert(DISPLACED == 2 * INTERFACES, "each entry of both tables can be displaced");
_Static_assert(sizeof(struct displaced_key) == 8, "struct displaced_key");
_Static_assert(sizeof(struct drop_key) == 48, "struct drop_key has no hidden padding");

#endif
