// Package bench prints tables that compare lasthop with its alternatives and
// with a host without rules, measured in one run: `make bench`.
//
// A ratio is made of two costs of the same round. Each round measures all
// variants once, and begins with another one than the round before, so that the
// load of other programs affects all alike. A table has the median of the
// rounds' ratios, and their quartiles. Costs of packets are processor time: of
// the thread that sends, including the kernel's work on its account, and of
// NGINX.
//
// The row "no rules, again" measures the base a second time: its distance from
// 1.00 is the error of the table.
//
// All of the package is in its tests:
//
//	bench_test.go    flags, sizes
//	table_test.go    medians, tables, goals
//	street_test.go   a host with uplinks and VIPs, and the world around it
//	variants_test.go the variants: add an entry to add one
//	packets_test.go  the cost of a packet, a connection and a byte
//	programs_test.go plan, apply, and the daemon's reloads
package bench
