package bigip

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hardTexts are texts of a given size, each of a kind that a parser can lose
// its linear time on.
var hardTexts = map[string]func(size int) string{
	"ordinary": func(size int) string {
		var b strings.Builder
		for i := 0; b.Len() < size; i++ {
			fmt.Fprintf(&b, "ltm virtual /Common/vs_%[1]d {\n"+
				"    destination /Common/10.%[2]d.%[3]d.1:443\n"+
				"    ip-protocol tcp\n    mask 255.255.255.255\n"+
				"    pool /Common/pool_%[1]d\n"+
				"    profiles {\n        /Common/http { }\n"+
				"        /Common/tcp { }\n    }\n    rules {\n"+
				"        /Common/rule_%[1]d\n    }\n    source 0.0.0.0/0\n"+
				"    vlans {\n        /Common/outside\n"+
				"    }\n    vlans-enabled\n}\n"+
				"ltm pool /Common/pool_%[1]d {\n    members {\n"+
				"        /Common/10.0.0.1:80 {\n            address 10.0.0.1\n"+
				"        }\n    }\n}\n"+
				"ltm rule /Common/rule_%[1]d {\nwhen HTTP_REQUEST {\n"+
				"    if { [HTTP::uri] starts_with \"/x\" } { "+
				"lasthop 10.0.0.1 }\n}\n}\n", i, i>>8&255, i&255)
		}
		return b.String()
	},
	"one line":       func(size int) string { return strings.Repeat("ltm pool p { } ", size/15) },
	"unclosed":       func(size int) string { return strings.Repeat("ltm pool p {\n", size/13) },
	"open strings":   func(size int) string { return strings.Repeat("ltm pool p { a \"\n", size/17) },
	"open rules":     func(size int) string { return strings.Repeat("ltm rule p {\n", size/13) },
	"rule lines":     func(size int) string { return "ltm rule p {\n" + strings.Repeat("a b {\n}\n", size/8) },
	"braces":         func(size int) string { return "ltm pool p { " + strings.Repeat("a{", size/2) },
	"closing braces": func(size int) string { return "ltm pool p { " + strings.Repeat("a}{", size/3) },
	"deep":           func(size int) string { return "ltm virtual p " + strings.Repeat("{ a ", size/4) },
	"deep and closed": func(size int) string {
		return "ltm virtual p " + strings.Repeat("{\n", size/4) +
			strings.Repeat("}\n", size/4)
	},
	"backslashes": func(size int) string { return "ltm pool p { \"" + strings.Repeat("\\", size) },
	"words":       func(size int) string { return "ltm " + strings.Repeat("a ", size/2) },
	"escapes": func(size int) string {
		return strings.Repeat("\x1b[7m---(less 84%)\x1b[m\r\n", size/24) + "ltm pool p { }"
	},
	"duplicates": func(size int) string { return strings.Repeat("ltm virtual p { destination 1.1.1.1:80 }\n", size/41) },
	"lists": func(size int) string {
		var b strings.Builder
		for i := 0; b.Len() < size; i++ {
			fmt.Fprintf(&b, "net address-list l%d { addresses { 10.0.0.1 { } } "+
				"address-lists { l%d { } l%d { } } }\n"+
				"ltm traffic-matching-criteria c%d { destination-address-list "+
				"l%d }\nltm virtual v%d { traffic-matching-criteria c%d }\n", i,
				i+1, i+2, i, i, i, i)
		}
		return b.String()
	},
	"bigdb": func(size int) string {
		return "[a]\n" + strings.Repeat("[Connection.AutoLasthop]\nvalue=enable\n", size/38)
	},
}

// cpuTime is what this process has used so far: unlike the clock, it does not
// depend on what else the machine does.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkLinear parses 5 MB and 10 MB of each of the hard texts: the second
// takes at most 2.5 times as long.
func BenchmarkLinear(b *testing.B) {
	const size, most = 5 << 20, 2.5
	for _, name := range slices.Sorted(maps.Keys(hardTexts)) {
		text := hardTexts[name]
		half, whole := []byte(text(size)), []byte(text(2*size))
		b.Run(strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			best := [2]time.Duration{time.Hour, time.Hour}
			for b.Loop() {
				for range 3 {
					for i, data := range [][]byte{half, whole} {
						runtime.GC()
						start := cpuTime(b)
						_, _ = Parse("x", data)
						best[i] = min(best[i], cpuTime(b)-start)
					}
				}
			}
			ratio := float64(best[1]) / float64(best[0])
			b.ReportMetric(ratio, "10MB/5MB")
			b.ReportMetric(float64(best[1].Milliseconds()), "ms/10MB")
			if ratio > most && best[1] > 100*time.Millisecond { // less is noise
				b.Errorf("10 MB take %.2f times as long as 5 MB: at most %v",
					ratio, most)
			}
		})
	}
}

// TestHardTexts: a short text of each kind takes no time to speak of, and every
// stanza is accounted for.
func TestHardTexts(t *testing.T) {
	for name, text := range hardTexts {
		start := time.Now()
		c, err := Parse("x", []byte(text(1<<16)))
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s took %v", name, took)
		}
		if err == nil {
			account(t, c)
		}
	}
}
