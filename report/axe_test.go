package report

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// axeCore returns the script of axe-core, which testdata/lab/deps.sh fetches
// with npm and checks. Without it the test is skipped. CI fails if it has npm:
// there deps.sh could not fetch it, and nobody would read that.
func axeCore(t *testing.T) string {
	t.Helper()
	dir, err := os.UserCacheDir()
	if err != nil {
		t.Skip(err)
	}
	pattern := filepath.Join(dir, "lasthop/axe-core-*.js")
	files, _ := filepath.Glob(pattern) // fails only for a bad pattern
	if len(files) == 0 {
		_, err := exec.LookPath("npm")
		if err == nil && os.Getenv("CI") == "true" {
			t.Fatal("no axe-core, although npm is here: testdata/lab/deps.sh browser")
		}
		t.Skip("no axe-core: testdata/lab/deps.sh browser fetches it with npm")
	}
	script, err := os.ReadFile(files[len(files)-1])
	if err != nil {
		t.Fatal(err)
	}
	return string(script)
}

// TestAccessible: axe-core finds nothing on any page: light in a wide window,
// and dark in one of 320 px, as a reader has who zooms in by 400 %.
func TestAccessible(t *testing.T) {
	script, browser := axeCore(t), browser(t)
	for name, page := range map[string]interface{ HTML(io.Writer) error }{
		"plan": smallPlan(t), "hostile": hostilePlan(t), "migration": smallMigration(),
		"fleet": fleetOf(t, 60)} {
		t.Run(name, func(t *testing.T) {
			tab := open(t, browser, page)
			tab.accessible(script, name, "light", 1280)
			tab.accessible(script, name, "dark", 320)
		})
	}
}

// accessible runs every rule of axe-core, also those of best practice, with all
// details open. Nothing sticks out of the window.
func (t tab) accessible(script, name, scheme string, width int64) {
	t.Helper()
	t.media("screen", scheme)
	t.do(chromedp.EmulateViewport(width, 900))
	if wide := eval[int64](t, `document.documentElement.scrollWidth`); wide > width {
		t.Errorf("the page is %d wide in a window of %d", wide, width)
	}
	t.picture(fmt.Sprintf("%s-%s-%d", name, scheme, width))
	found, err := chromedp.Run(t.ctx, chromedp.Evaluate[[]string](`(async () => {
		if (!window.axe) { `+script+` }
		document.querySelectorAll("details").forEach(d => d.open = true);
		const result = await axe.run(document, {resultTypes: ["violations"]});
		return result.violations.flatMap(v => v.nodes.slice(0, 3).map(n => v.id + ": " + n.html.slice(0, 120) + ": " + n.failureSummary));
	})()`, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range found {
		t.Errorf("%s, %d px: %s", scheme, width, strings.ReplaceAll(s, "\n", " "))
	}
}
