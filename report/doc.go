// Package report writes results to stdout: what lasthop would do, what it did,
// what is there.
//
// Each result (Plan, Apply, Check, Clear, Migration …) is a struct of values
// from routing. Text is for people: it fits 80 columns if the names allow it,
// summarises long lists and ends with what to do next. JSON is the same struct
// for machines: one document with version and kind, arrays never null, absent
// values omitted, a fixed order. For hosts without lasthop, Script is a shell
// script, Networkd is files for systemd-networkd and NMCLI is a script for
// NetworkManager. Fleet merges the plans of many hosts. A Plan and a Migration
// also have HTML (one page for those who approve it, with a drawing), Markdown
// (the text for a ticket) and CSV (a line for each listener or virtual server).
// Since lists what has changed since an earlier JSON.
//
// Names come from configuration files and from the kernel and are not trusted.
// In whatever people read, lasthop escapes every character that a terminal
// could treat as a command, and every mark that changes the direction of
// writing. Then each format quotes the characters that are special in it. This
// package reads and decides nothing.
package report

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"time"

	"lasthop/routing"
)

// Head is what every result begins with.
type Head struct {
	Lasthop, Host, Kernel string
	Time                  time.Time
	Inputs                []Input
}

// Input is a file that the result depends on.
type Input struct {
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
	Main   bool   `json:"-"` // named by the user or by NGINX, not included by another
}

// InputOf returns the input of a file that holds data.
func InputOf(file string, data []byte) Input {
	return Input{File: file, SHA256: fmt.Sprintf("%x", sha256.Sum256(data))}
}

// Plan is the result of `lasthop plan`.
type Plan struct {
	Head
	Policy routing.Policy // that the plan follows
	Plan   routing.Plan
	Diff   routing.Diff
	Back   routing.Diff // what takes Diff back
	Digest string
	Next   string        // the command line that applies this plan; "" if there is none
	Proof  *Proof        // a kernel's answer to it; nil if none was asked
	Seen   *routing.Seen // what packets showed; nil if they were not observed
	Since  *Since        // an earlier plan; nil if nothing is compared
	// the ways with what is installed now; nil if nothing is installed
	Now *routing.Standing
}

// Proof is a kernel's answer to a plan.
type Proof struct {
	routing.Proof
	Unproved string // why it could not be asked; "" if it was
}

// Differs reports whether the kernel differs from the plan.
func (p *Proof) Differs() bool { return p != nil && len(p.Differences) > 0 }

// Apply is the result of `lasthop apply`.
type Apply struct {
	Plan
	Done   []routing.Op // the writes that were made
	Writes int          // messages sent to the kernel that change something
	Undo   string       // the command that undoes them; "" if nothing was written
	Checks []Checked    // the kernel's answer about each path that has an address here
	Quiet  bool         // one line of text, and none if nothing was to do
}

// Check is the result of `lasthop check`.
type Check struct {
	Head
	Plan    routing.Plan
	Diff    routing.Diff // what is missing for the plan
	Digest  string
	Checks  []Checked
	Remedy  string        // the command line that corrects it
	Offline bool          // answered from a capture, not by a kernel
	Quiet   bool          // one line
	Seen    *routing.Seen // what packets showed; nil if they were not observed
}

// Contradictions are the findings about packets that require an action.
func (c Check) Contradictions() (list []routing.Finding) {
	if c.Seen == nil {
		return nil
	}
	for _, f := range c.Plan.Findings {
		if f.Severity != routing.Info &&
			(f.Code == "seen-otherwise" || slices.Contains(c.Seen.Findings, f)) {
			list = append(list, f)
		}
	}
	return list
}

// Wanted reports whether everything is as wanted.
func (c Check) Wanted() bool {
	return c.Bad() == 0 && c.Missing() == 0 && len(c.Contradictions()) == 0 &&
		!c.Plan.FellBack()
}

// Checked is one outcome with the way that its replies take now.
type Checked struct {
	routing.Outcome
	Now      routing.Way
	Want     string // the way wanted, in words; "" if none is known
	Verdict  Verdict
	Question routing.Query
	// if clients behind the gateways are answered right: other clients
	// whose replies leave the wrong way
	Wrong []WrongClient
}

// WrongClient stands for a class of clients whose replies leave the wrong way.
type WrongClient struct {
	routing.Client
	Now, Want routing.Way
}

// Verdict is Check's result for one listener.
type Verdict string

const (
	Symmetric  Verdict = "symmetric"  // replies leave the way requests come in
	Asymmetric Verdict = "asymmetric" // they leave another way, or none
	NoGateway  Verdict = "local"      // no gateway is involved
	NotAsked   Verdict = "off"        // switched off or isolated
	NotKnown   Verdict = "unresolved" // the way in is unknown
	NotHere    Verdict = "armed"      // the address is not here; its way is ready
	// the address is not here, and its replies would leave another way
	NotHereWrong Verdict = "not-armed"
)

// verdicts are all of them.
var verdicts = []Verdict{Symmetric, Asymmetric, NotKnown, NotHere, NotHereWrong, NoGateway,
	NotAsked}

// Bad reports whether `lasthop check` exits with 2 for the verdict.
func (v Verdict) Bad() bool { return v == Asymmetric || v == NotKnown || v == NotHereWrong }

// Clear is the result of `lasthop clear`.
type Clear struct {
	Head
	Diff   routing.Diff
	DryRun bool
	Done   []routing.Op
}

// Version is the result of `lasthop version`.
type Version struct {
	Lasthop  string `json:"lasthop"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Revision string `json:"revision,omitempty"`
	Date     string `json:"date,omitempty"`
	Modified bool   `json:"modified,omitempty"`
}

// Style is how text is written.
type Style struct {
	Color bool
	Width int // columns; 0 is 80
}

// leastWidth is the narrowest that text is: no table fits in less.
const leastWidth = 60

func (s Style) columns() int { return max(cmp.Or(s.Width, 80), leastWidth) }

// Result is what every command ends with.
type Result interface {
	Text(io.Writer, Style) error
	JSON(io.Writer) error
}

// Page is a result with more formats.
type Page interface {
	Result
	HTML(io.Writer) error
	Markdown(io.Writer) error
	CSV(io.Writer) error
}

// Write writes a result in a format: text or json, of a Page also html,
// markdown or csv, of a Check also prometheus. A Fleet has html, too.
func Write(w io.Writer, r Result, format string, s Style) error {
	p, ok := r.(Page)
	c, checks := r.(Check)
	h, page := r.(interface{ HTML(io.Writer) error })
	switch {
	case checks && format == "prometheus":
		return c.Prometheus(w)
	case format == "json":
		return r.JSON(w)
	case page && format == "html":
		return h.HTML(w)
	case ok && format == "markdown":
		return p.Markdown(w)
	case ok && format == "csv":
		return p.CSV(w)
	}
	return r.Text(w, s)
}
