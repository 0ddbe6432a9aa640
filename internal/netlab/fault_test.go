package netlab

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
)

var plantedFault = flag.String("fault", "", "plant only the faults of a `KIND`")

// planting is a fault in the kernel, after apply, or in the program. wrapper is
// a script around the program, which is $lasthop there.
type planting struct {
	kind    string
	wrapper string
	tamper  func(*trial)
}

// planted are faults of each kind that the oracle has to find.
var planted = []planting{
	{readyButDark, "", darken},
	{lost, "", darken},
	{evidenceIgnored, "", darken},
	{movedAndLost, `[ $1 = plan ] || exec $lasthop "$@"
$lasthop "$@" | sed 's|"findings":|"moves": [{"addresses": ["10.7.0.10"], "clients": "198.51.100.0/24"}], "findings":|'`, darken},
	{namedDark, `[ $1 = plan ] || exec $lasthop "$@"
$lasthop "$@" | sed 's|"findings": \[|"findings": [{"code": "x", "severity": "warning", "subject": "10.7.0.10", "message": "loses 198.51.100.0/24", "hint": ""}],"rest": [|'`, darken},
	{unresolved, `[ $1 = plan ] || exec $lasthop "$@"
$lasthop "$@" | sed 's|"ready"|"unresolved"|; s|"unchanged"|"unresolved"|'`, darken},
	{flagFails, `[ $1 = plan ] || exec $lasthop "$@"
$lasthop "$@" | sed 's|"ready"|"unresolved"|; s|"unchanged"|"unresolved"|'`, darken},
	{askedInVain, `[ $1 = plan ] || exec $lasthop "$@"
$lasthop "$@" | sed 's|"ready"|"unresolved"|; s|"unchanged"|"unresolved"|'`, nil},
	{checkContent, `[ $1 = check ] || exec $lasthop "$@"`, darken},
	{notRestored, `[ $1 = clear ] || exec $lasthop "$@"`, nil},
	{applyFails, `[ $1 = apply ] || exec $lasthop "$@"; exit 1`, nil},
	{secondWrites, `$lasthop "$@" | sed 's|"writes": 0|"writes": 3|'`, nil},
	{banLifted, "", func(t *trial) {
		plant(t, "route add default via 10.7.0.1 dev eth0 table 9999",
			"rule add pref 2 to 198.51.100.66 lookup 9999")
	}},
	{ownLost, "", func(t *trial) { plant(t, "rule add pref 2 to 198.51.100.10 iif lo blackhole") }},
	{seenOtherwise, falsify(`s|"symmetric"|"asymmetric"|`), nil},
	{seenOtherwise, falsify(`s|"outcome": "works"|"outcome": "dark"|`), nil},
	{seenOtherwise, falsify(`s|"interface": "eth0"|"interface": "eth1"|;
s|"wire": "eth0"|"wire": "eth1"|`), nil},
	{seenOtherwise, falsify(`s|"mac": "02:00:|"mac": "02:01:|`), nil},
	{seenOtherwise, falsify(`s|"verdict": "[a-z-]*"|"verdict": "symmetric"|`), darken},
	{seenOtherwise, falsify(`s|"outcome": "dark"|"outcome": "works"|`), darken},
	{unsound, "", func(t *trial) {
		if err := t.batch("r0", "", []string{"link set out down"}); err != nil {
			t.faults = append(t.faults, Fault{Kind: "not planted", Detail: err.Error()})
		}
	}},
}

// falsify returns a wrapper that edits the observer's output.
func falsify(edit string) string {
	return `[ $1 = observe ] || exec $lasthop "$@"
$lasthop "$@" | sed '` + edit + `'`
}

// wrapperText is a script that leaves an interrupt to the program.
const wrapperText = "#!/bin/sh\ntrap '' INT\nlasthop=%s\n%s\n"

// darken drops all replies of one address.
func darken(t *trial) {
	plant(t, "route add default via 10.7.0.99 dev eth0 onlink table 9999",
		"rule add pref 2 from 10.7.0.10 lookup 9999")
}

func plant(t *trial, lines ...string) {
	if err := t.batch(host, "-4", lines); err != nil {
		t.faults = append(t.faults, Fault{Kind: "not planted", Detail: err.Error()})
	}
}

// plain returns a network without the ingredients that a seed adds: two links
// with a default each, and a ban.
func plain() *Network {
	seed := uint64(1)
	for !draw(seed).Ingredients["ban"] {
		seed++
	}
	var drop []string
	for {
		n := draw(seed, drop...)
		extra := slices.DeleteFunc(sorted(n.Ingredients), func(i string) bool {
			return i == "ban" || i == "strict firewall" || i == "written by main" ||
				slices.Contains(drop, i)
		})
		if len(extra) == 0 {
			return n
		}
		drop = append(drop, extra...)
	}
}

// TestFaults plants each fault: the oracle finds it, and finds none in a
// network without a fault.
func TestFaults(t *testing.T) {
	bin := lasthopBinary(t)
	n := plain()
	t.Run("none", func(t *testing.T) {
		if r := try(t, n, bin, nil); r.String() != "" {
			t.Fatalf("faults on a plain network:\n%s%s", n, r)
		}
	})
	next := make(chan planting)
	var workers sync.WaitGroup
	for range together {
		workers.Go(func() {
			for p := range next {
				t.Run(p.kind, func(t *testing.T) { p.see(t, bin) })
			}
		})
	}
	for _, p := range planted {
		if *plantedFault == "" || p.kind == *plantedFault {
			next <- p
		}
	}
	close(next)
	workers.Wait()
}

// see plants the fault, and fails if the oracle does not find it.
func (p planting) see(t *testing.T, bin string) {
	program := bin
	if p.wrapper != "" {
		program = t.TempDir() + "/wrapper"
		text := fmt.Sprintf(wrapperText, bin, p.wrapper)
		if err := os.WriteFile(program, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r := try(t, plain(), program, p.tamper)
	if r.Error != "" || !slices.Contains(r.kinds(), p.kind) {
		t.Errorf("%s is not seen:\n%s", p.kind, r)
	}
}

// TestTools fails if the machine lacks a program that the networks need, so
// that not each seed fails.
func TestTools(t *testing.T) {
	for _, tool := range []string{"ip", "nft", "sh", "mount", "diff"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Error(err)
		}
	}
}
