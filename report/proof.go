package report

import (
	"fmt"

	"lasthop/routing"
)

type proofDoc struct {
	Proved   bool   `json:"proved"`
	Unproved string `json:"unproved,omitempty"`
	routing.Proof
}

func (p *Proof) doc() *proofDoc {
	if p == nil {
		return nil
	}
	d := proofDoc{p.Unproved == "" && !p.Differs(), p.Unproved, p.Proof}
	d.Differences, d.NotRebuilt = list(d.Differences), list(d.NotRebuilt)
	return &d
}

// line returns the result in a sentence.
func (p *Proof) line() string {
	asked := fmt.Sprintf("%s, %s, before and after: %s", count(p.Addresses, "address"),
		count(p.Clients, "client group"), count(p.Asked, "answer"))
	switch {
	case p.Unproved != "":
		return "Not proved: " + p.Unproved
	case p.Differs():
		return fmt.Sprintf("The kernel does not confirm the plan (Linux %s): %s, "+
			"%s", p.Kernel,
			asked, count(len(p.Differences), "difference"))
	}
	return fmt.Sprintf("Proved by the kernel (Linux %s): %s, all as planned", p.Kernel, asked)
}

// proof writes the kernel's answer to the plan.
func (t *page) proof(p *Proof) {
	if p == nil {
		return
	}
	t.printf("\n")
	t.wrap("", Escape(p.line()))
	t.lines(red, p.differences())
	if len(p.NotRebuilt) > 0 {
		t.printf("%s:\n", p.notRebuilt())
	}
	t.lines("", p.NotRebuilt)
}

func (p *Proof) differences() []string {
	return mapped(p.Differences, func(d routing.Difference) string {
		return fmt.Sprintf("%s, %s: %s, not %s", d.When, d.Subject, d.Got, d.Want)
	})
}

// notRebuilt is the heading of that list.
func (p *Proof) notRebuilt() string {
	if p.Differs() {
		return "Parts of the host that lasthop could not rebuild, which may be the reason"
	}
	return "Parts of the host that lasthop could not rebuild"
}
