// Package bench prints tables that compare lasthop with what else can be done,
// or with nothing done, measured side by side in one run: `make bench`.
//
// A ratio is made of two costs of the same round. Rounds follow each other, in
// each of them everything is measured once, and each round begins with another
// one. A table has the median of the rounds' ratios, and their quartiles. What
// other programs do to the machine falls on all alike. Costs of packets are
// processor time, for the same reason: that of the thread which sends, with what
// the kernel does on its account, and that of NGINX.
//
// The row "no rules, again" is the base measured twice: how far it is from 1.00
// says what a table can tell apart.
//
// All of the package is in its tests:
//
//	bench_test.go    flags, sizes
//	table_test.go    medians, tables, goals
//	street_test.go   a host with uplinks and VIPs, and the world around it
//	variants_test.go what is compared: a variant more is an entry more
//	packets_test.go  what a packet, a connection and a byte cost
//	programs_test.go plan, apply, and the daemon's reloads
package bench
