package report

import (
	"bytes"
	"context"
	"os/exec"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// TestPageOfFleet: on the page of 200 hosts, those that differ are on the first
// screen.
func TestPageOfFleet(t *testing.T) {
	f := fleetOf(t, 200)
	browser := browser(t)
	tab := open(t, browser, f)
	loaded := eval[float64](tab,
		`performance.getEntriesByType("navigation")[0].loadEventEnd`)
	if t.Logf("loaded in %.0f ms", loaded); loaded <= 0 || loaded > 5000 {
		// generous: the machine may do other things
		t.Errorf("loaded in %.0f ms", loaded)
	}
	tab.equal("from elsewhere", 0,
		eval[int](tab, `performance.getEntriesByType("resource").length`))
	tab.do(chromedp.EmulateViewport(1200, 900))
	tab.equal("on the first screen", []string{"web163", "web042", "web117"},
		eval[[]string](tab, `[...document.querySelectorAll("#attention tbody tr")].filter(r => { const b = r.getBoundingClientRect(); return b.top >= 0 && b.bottom <= 900 && b.right <= 1200 }).map(r => r.cells[0].textContent)`))
	tab.equal("rows", 200, len(tab.column(0)))
	tab.find("10.7.1.100")
	tab.equal("found by an address that is folded", []string{"web007"}, tab.column(0))
	tab.click("[type=reset]")
	tab.click(`[value="alike"]`)
	tab.equal("not alike", []string{"web042", "web117", "web163"}, tab.column(0))
	tab.click("[type=reset]")
	tab.print("fleet", chromedp.PaperA4)
	tab.paper(chromedp.PaperA4)
	tab.picture("fleet")
	withoutScript(t, browser, f)
}

// withoutScript: the page has all its rows and opens them.
func withoutScript(t *testing.T, browser context.Context, f Fleet) {
	tab := open(t, browser, f)
	if _, err := chromedp.Call(tab.ctx, emulation.SetScriptExecutionDisabled,
		emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		t.Fatal(err)
	}
	tab.do(chromedp.Reload())
	tab.equal("rows", len(f.Hosts), len(tab.column(0)))
	tab.equal("controls", 0,
		eval[int](tab, `[...document.querySelectorAll("button, input")].filter(x => x.checkVisibility()).length`))
	tab.click("#hosts summary")
	tab.equal("opened", true,
		eval[bool](tab, `document.querySelector("#hosts .rows").checkVisibility()`))
}

// TestFirstSheet: on paper the drawing, or the table of paths where it takes a
// page of its own, begins below the head.
func TestFirstSheet(t *testing.T) {
	if _, err := exec.LookPath("pdftotext"); err != nil {
		t.Skip(err)
	}
	browser := browser(t)
	for want, p := range map[string]Plan{"NGINX listens on": smallPlan(t),
		"Known from": uplinksPlan(t, 10)} {
		pdf := open(t, browser, p).print("first-sheet", chromedp.PaperA4)
		text, err := exec.Command("pdftotext", "-l", "1", "-layout", pdf, "-").Output()
		if err != nil || !bytes.Contains(text, []byte(want)) {
			t.Errorf("the first sheet lacks %q: %v\n%s", want, err, text)
		}
	}
}

// TestBreaks: long words may break behind punctuation, and nothing is added to
// what is copied.
func TestBreaks(t *testing.T) {
	for s, want := range map[string]string{
		"10.0.1.100":                 "10.0.1.100",
		"10.255.255.100/24":          "10.255.255.100/24",
		"2001:db8:aaaa:bbbb::1:ffff": "2001:db8:aaaa:<wbr>bbbb::1:ffff",
		"eth0 via 2001:db8:1::1234":  "eth0 via 2001:db8:1::<wbr>1234",
		"/etc/nginx/conf.d/a&b.conf": "/etc/nginx/<wbr>conf.d/a&amp;b.<wbr>conf",
		"<b>":                        "&lt;b&gt;",
		"":                           "",
	} {
		if got := string(breaks(s)); got != want {
			t.Errorf("%q: got %q, want %q", s, got, want)
		}
	}
}
