package report

import (
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"lasthop/routing"
)

// seenPlan is smallPlan with packets of two of its listeners.
func seenPlan(t testing.TB) Plan {
	p := smallPlan(t)
	p.Seen = &routing.Seen{Window: seenExample().Window, Listeners: []routing.SeenListener{
		seenOf("10.0.1.100", routing.WayAsymmetric, routing.WayDark),
		seenOf("2001:db8:1::100", routing.WaySymmetric, routing.WayWorks)}}
	p.Plan.Findings = append(p.Plan.Findings, routing.Error.Finding("dark",
		"10.0.1.100:443", "3 connections of 3 clients, none got an answer"))
	return p
}

func seenOf(addr string, v routing.WayVerdict, o routing.WayOutcome) routing.SeenListener {
	return routing.SeenListener{Addr: netip.MustParseAddr(addr), Port: 443,
		Transport: routing.TCP, Verdict: v, Outcome: o}
}

// TestSeenFormats: every report of a plan contains what packets showed if there
// was evidence, and none does if there was none.
func TestSeenFormats(t *testing.T) {
	for format, want := range map[string]string{
		"text": `
  ADDRESS          PORT  LINK  STATUS  SEEN
      REPLIES LEAVE BY
  10.0.1.100       443   eth1  ready   ASYMMETRIC, NO REPLY ARRIVES
  2001:db8:1::100  443   eth1  ready   symmetric
  10.0.0.10        80    eth0  ready   no packets`,
		"markdown": "| Packets | looked at for 30 s from 2026-03-01 12:00:00 UTC |\n" +
			"| Address | Port | Interface | Status | Seen | Replies leave by |\n" +
			"|---|---|---|---|---|---|\n" +
			"| `10.0.1.100` | 443 | `eth1` | ready | ASYMMETRIC, NO REPLY ARRIVES | eth0 via 10.0.0.1 -> eth1 via 10.0.1.1 |\n" +
			"| `10.0.0.10` | 80 | `eth0` | ready | no packets | eth0 via 10.0.0.1 (unchanged off-link; replies to other LANs move here) |",
		"csv": `address,port,last_port,transport,context,listen,servers,origins,interface,status,reason,before_type,before_interface,before_gateway,before_table,before_more,after_type,after_interface,after_gateway,after_table,after_more,seen_verdict,seen_outcome
10.0.1.100,443,,tcp,http,10.0.1.100,www.example.org example.org,nginx.conf:3,eth1,ready,,,eth0,10.0.0.1,254,,,eth1,10.0.1.1,20431,,asymmetric,dark
2001:db8:1::100,443,,tcp,http,2001:db8:1::100,www.example.org example.org,nginx.conf:3,eth1,ready,,,eth0,2001:db8::1,254,,,eth1,2001:db8:1::1,20431,,symmetric,works
10.0.0.10,80,,tcp,http,10.0.0.10,status.example.org,nginx.conf:3,eth0,ready,,,eth0,10.0.0.1,254,,,eth0,10.0.0.1,20812,,,`,
		"html": `Packets <b>looked at for 30 s from 2026-03-01 12:00:00 UTC</b>
<th scope="col" data-sort="text">Seen</th>
<td class="bad">ASYMMETRIC, NO REPLY ARRIVES</td>
<td>symmetric</td>
<td>no packets</td>`,
	} {
		got := written(t, format, seenPlan(t))
		for line := range strings.SplitSeq(strings.TrimSpace(want), "\n") {
			if !strings.Contains(got, strings.TrimSpace(line)) {
				t.Errorf("%s lacks %q:\n%s", format, line, got)
			}
		}
		without := strings.ToLower(written(t, format, smallPlan(t)))
		for _, word := range []string{"no packets", ">seen<", " seen ", "seen_", "looked at"} {
			if strings.Contains(without, word) {
				t.Errorf("%s has %q without evidence", format, word)
			}
		}
	}
}

// TestSeenOfMany: of thousands of rows, one whose packets get no answer is
// shown wherever it stands.
func TestSeenOfMany(t *testing.T) {
	p := bigPlan(t)
	var far routing.Outcome
	for _, o := range p.Plan.Outcomes {
		if o.Status == routing.Ready && o.Ports.First == 443 {
			far = o
		}
	}
	p.Seen = &routing.Seen{Listeners: []routing.SeenListener{
		seenOf(far.Addr.String(), routing.WayUnanswered, routing.WayDark)}}
	for format, want := range map[string]string{
		"text":     fmt.Sprintf("~  %s  ", far.Addr),
		"markdown": fmt.Sprintf("| `%s` | 443 |", far.Addr)} {
		var lines []string
		for line := range strings.Lines(written(t, format, p)) {
			if strings.Contains(line, want) &&
				slices.Contains(strings.Fields(line), "UNANSWERED") {
				lines = append(lines, line)
			}
		}
		if len(lines) != 1 {
			t.Errorf("%s: %q is dark in the lines %q", format, want, lines)
		}
	}
	c := Check{Seen: p.Seen}
	for _, o := range p.Plan.Outcomes {
		c.Checks = append(c.Checks, Checked{Outcome: o, Verdict: Symmetric})
	}
	if got := textOf(t, c, Style{}); !strings.Contains(got, " UNANSWERED ") {
		t.Errorf("check does not show the dark row:\n%s", got)
	}
}

// TestPageOfSeen: the column can be read on the screen and on paper, is found
// by the filter and can be sorted by; what is dark is red.
func TestPageOfSeen(t *testing.T) {
	p := seenPlan(t)
	tab := open(t, browser(t), p)
	tab.holds(p)
	const seen = 5
	tab.equal("column", []string{"no packets", "ASYMMETRIC, NO REPLY ARRIVES", "symmetric"},
		tab.column(seen))
	tab.find("arrives")
	tab.equal("found", []string{"10.0.1.100"}, tab.column(0))
	tab.click("[type=reset]")
	tab.click("#listeners th:nth-child(6) button")
	tab.equal("sorted", []string{"ASYMMETRIC, NO REPLY ARRIVES", "no packets", "symmetric"},
		tab.column(seen))
	pdf := tab.print("seen", chromedp.PaperA4)
	text, err := exec.Command("pdftotext", "-layout", pdf, "-").Output()
	row := regexp.MustCompile(`(?m)^2001:db8:1::100 .* symmetric .* nginx.conf:3$`)
	if err == nil && !row.Match(text) {
		t.Errorf("the row is cut on paper:\n%s", text)
	}
	for _, paper := range []string{"screen", "print"} {
		tab.media(paper, "light")
		color := parseColor(t, eval[string](tab,
			`getComputedStyle(document.querySelector("#listeners td.bad")).color`))
		if color[0] < 150 || color[1] > 100 || color[2] > 100 {
			t.Errorf("on %s what is dark has the color %v", paper, color)
		}
		tab.equal(paper+": whole words", true, eval[bool](tab, `
			[...document.querySelectorAll("#listeners tbody td:nth-child(6)")].every(td => {
				const range = document.createRange();
				range.selectNodeContents(td);
				return td.textContent.split(" ").length >=
					[...range.getClientRects()].length;
			})`))
	}
	tab.media("screen", "light")
	tab.contrast("light")
	tab.media("screen", "dark")
	tab.contrast("dark")
	tab.picture("seen-dark")
	tab.media("screen", "light")
	tab.picture("seen-light")
	tab.paper(chromedp.PaperA4)
}
