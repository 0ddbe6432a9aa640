package main_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lasthop/internal/nstest"
	"lasthop/routing"
	"lasthop/routing/host"
	"lasthop/routing/sim"
)

// namespace is a network namespace that a simulated host is built in.
type namespace struct {
	*nstest.NS
	kernel *host.Kernel
}

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	ns := nstest.New(t)
	k, err := host.Open(ns.Path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return &namespace{ns, k}
}

// build makes the host and waits until the kernel is done with it: IPv6 inserts
// routes of addresses from a work queue.
func (n *namespace) build(t *testing.T, s *sim.Sim) {
	t.Helper()
	for key, value := range s.Host.Sysctls {
		if !strings.Contains(key, ".conf.eth") {
			n.Sysctl("net." + key + "=" + value)
		}
	}
	all, six := s.Batch()
	n.batch(t, all)
	n.batch(t, six, "-6")
	if s.Filter != "" {
		n.Run("nft", s.Filter)
	}
	for key, value := range s.Host.Sysctls {
		if strings.Contains(key, ".conf.eth") { // exists since the batch
			n.Sysctl("net." + key + "=" + value)
		}
	}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(
		2 * time.Millisecond) {
		if compareHosts(s.Host, n.read(t, s)) == "" {
			return
		}
	}
}

func (n *namespace) batch(t *testing.T, lines string, options ...string) {
	t.Helper()
	if lines == "" {
		return
	}
	c := n.Command(append(append([]string{"ip"}, options...), "-batch", "-")...)
	c.Stdin = strings.NewReader(lines)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("ip -batch: %v\n%s\nof\n%s", err, out, lines)
	}
}

// read reads the host as every command does, takes out what a simulated one
// does not have, and adds its leases.
func (n *namespace) read(t *testing.T, s *sim.Sim) routing.Host {
	t.Helper()
	h, err := n.kernel.Read()
	if err != nil {
		t.Fatal(err)
	}
	h = sim.Drop(h)
	h.Leases = s.Host.Leases
	return h
}

// compareHosts compares what the simulation is about: not indexes, host name
// and the like.
func compareHosts(want, got routing.Host) string {
	return cmp.Diff(hostLines(want, want.Sysctls), hostLines(got, want.Sysctls))
}

func hostLines(h routing.Host, sysctls map[string]string) []string {
	var lines []string
	for _, l := range h.Links {
		lines = append(lines, fmt.Sprintf("link %s kind %q loopback %t up %t carrier %t "+
			"master %q group %d mtu %d point-to-point %t",
			l.Name, l.Kind, l.Loopback, l.Up, l.Carrier, l.Master, l.Group, l.MTU,
			l.PointToPoint))
	}
	for _, a := range h.Addrs {
		lines = append(lines, fmt.Sprintf("addr %s %s peer %s scope %d temporary %t "+
			"noprefix %t tentative %t",
			a.Link, a.Prefix, a.Peer, a.Scope, a.Temporary, a.NoPrefix, a.Tentative))
	}
	for _, r := range h.Neighs {
		lines = append(lines, fmt.Sprintf("neigh %s %s %s %t %s", r.Link, r.Addr, r.MAC,
			r.Router, r.State))
	}
	for _, r := range h.Rulesets {
		if r.Lookup != "" {
			lines = append(lines, fmt.Sprintf("ruleset %s %s", r.Family, r.Lookup))
		}
	}
	for key := range sysctls {
		lines = append(lines, "sysctl "+key+"="+h.Sysctls[key])
	}
	slices.Sort(lines)
	return append(lines, slices.Concat(routeLines(h.Routes), ruleLines(h.Rules))...)
}

// routeLines prints routes sorted, those of one key in the kernel's order, with
// their volatile flags.
func routeLines(routes []routing.Route) []string {
	s := routing.State{Routes: slices.Clone(routes)}
	s.Sort()
	var lines []string
	for _, r := range s.Routes {
		line := fmt.Sprintf("route %s: %s", r.Family(), r)
		for _, h := range r.Hops {
			if h.Dead || h.LinkDown {
				line += fmt.Sprintf(" [%s dead %t linkdown %t]", h.Link,
					h.Dead, h.LinkDown)
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// ruleLines prints rules in the kernel's order.
func ruleLines(rules []routing.Rule) []string {
	var lines []string
	for _, r := range rules {
		lines = append(lines, fmt.Sprintf("rule %s: %s", r.Family, r))
	}
	return lines
}
