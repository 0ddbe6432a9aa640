package report

import (
	"strings"
	"testing"

	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
)

func proofWith(change func(*routing.Proof)) *Proof {
	p := routing.Proof{Kernel: "6.18.0", Addresses: 1, Clients: 3, Asked: 6}
	change(&p)
	return &Proof{Proof: p}
}

var oneDifference = routing.Difference{When: routing.AfterApply,
	Subject: "10.0.1.100 to 198.51.100.1", Want: "eth1 via 10.0.1.1, table 20431",
	Got: "eth0 via 10.0.0.1, table main"}

func TestProofText(t *testing.T) {
	for _, tt := range []struct {
		name  string
		proof *Proof
		want  string
	}{
		{"not asked for", nil, ""},
		{"proved", proofWith(func(*routing.Proof) {}), `
Proved by the kernel (Linux 6.18.0): 1 address, 3 client groups, before and
after: 6 answers, all as planned
`},
		{"not all is rebuilt", proofWith(func(p *routing.Proof) { p.NotRebuilt = []string{"address 2001:db8::1/64 of \x1b[31m: tentative"} }), `
Proved by the kernel (Linux 6.18.0): 1 address, 3 client groups, before and
after: 6 answers, all as planned
Parts of the host that lasthop could not rebuild:
  address 2001:db8::1/64 of \x1b[31m: tentative
`},
		{"differs", proofWith(func(p *routing.Proof) {
			p.Differences, p.NotRebuilt = []routing.Difference{oneDifference},
				[]string{"link eth1 up mtu 1500 group 0: invalid argument"}
		}), `
The kernel does not confirm the plan (Linux 6.18.0): 1 address, 3 client groups,
before and after: 6 answers, 1 difference
  after, 10.0.1.100 to 198.51.100.1: eth0 via 10.0.0.1, table main, not eth1 via
  10.0.1.1, table 20431
Parts of the host that lasthop could not rebuild, which may be the reason:
  link eth1 up mtu 1500 group 0: invalid argument
`},
		{"not proved", &Proof{Unproved: "operation not permitted"}, "\nNot proved: operation not permitted\n"},
	} {
		page := &page{}
		page.proof(tt.proof)
		if d := cmp.Diff(tt.want, page.String()); d != "" {
			t.Errorf("%s: -want +got\n%s", tt.name, d)
		}
	}
}

func TestProofTextOfMany(t *testing.T) {
	many := proofWith(func(p *routing.Proof) {
		for range 100 {
			p.Differences, p.NotRebuilt = append(p.Differences, oneDifference),
				append(p.NotRebuilt, "address")
		}
	})
	p := &page{}
	p.proof(many)
	if n := strings.Count(p.String(), "… and 60 more; all of them with -o json"); n != 2 {
		t.Errorf("%d lists are cut short, want 2:\n%s", n, p)
	}
}

func TestProofScript(t *testing.T) {
	p := makePlan(t, listener("10.0.1.100", 80))
	p.Proof = &Proof{Proof: routing.Proof{Kernel: "6.18.0\nrm -rf /"}}
	var b strings.Builder
	if err := Script(&b, p, routing.Diff{}); err != nil {
		t.Fatal(err)
	}
	if want := "\n# Proved by the kernel (Linux 6.18.0\\nrm -rf /): "; !strings.Contains(
		b.String(), want) {
		t.Errorf("lacks %q:\n%s", want, b.String())
	}
}
