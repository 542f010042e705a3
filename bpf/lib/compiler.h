/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * Compiler attributes and barriers. BCC has no <stdbool.h> and <stddef.h>:
 * bool and NULL come from stubs/include/linux/kconfig.h, which it includes first.
 *
 * Every function of the program is __always_inline. BCC cannot load a program
 * with a bpf-to-bpf call: dump_func() of BCC 0.26 returns the call without its
 * relocation (imm -1). The price is verifier work: each caller of a function is
 * verified on its own, see docs/BENCHMARKS.md.
 */
#ifndef TPROXY_COMPILER_H
#define TPROXY_COMPILER_H

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

/* Hide the origin of a value from the compiler, as barrier_var() of libbpf does. */
#define barrier_var(var) asm volatile("" : "+r"(var))

#endif
