package daemon

import (
	"fmt"
	"math"
	"os"
	"path"
	"runtime/debug"
	usage "runtime/metrics"
	"strconv"
	"strings"

	"lasthop/internal/hint"
)

// heedMemory makes the garbage collector work harder as the memory of the
// service gets scarce, so that the kernel does not end the daemon: at
// GOMEMLIMIT, else at nine tenths of what the control group may use.
func heedMemory() {
	if max := groupMemory("/proc/self/cgroup", "/sys/fs/cgroup"); max > 0 &&
		os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(max / 10 * 9)
	}
}

// groupMemory returns the memory.max of a process's control group, of version
// 2, and of the groups around it: the smallest; 0 for none.
func groupMemory(file, root string) (least int64) {
	data, _ := os.ReadFile(file)
	for line := range strings.Lines(string(data)) {
		group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		for ; ok && strings.HasPrefix(group, "/"); group = path.Dir(group) {
			text, _ := os.ReadFile(path.Join(root, group, "memory.max"))
			max, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
			if err == nil && (least == 0 || max < least) {
				least = max
			}
			if group == "/" {
				break
			}
		}
	}
	return least
}

// scarceMemory returns an error while the daemon needs all of the memory that
// it may have: then the collector takes up to half of the processor.
func scarceMemory() error {
	limit := debug.SetMemoryLimit(-1)
	if limit == math.MaxInt64 {
		return nil
	}
	s := []usage.Sample{{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/released:bytes"}}
	usage.Read(s)
	used := int64(s[0].Value.Uint64() - s[1].Value.Uint64() - s[2].Value.Uint64())
	if used < limit/20*19 {
		return nil
	}
	const mib = 1 << 20
	return hint.New(fmt.Errorf("memory is scarce: the daemon may use %d MiB and uses all of "+
		"it, so it is slower", limit/mib),
		"raise MemoryMax= of the service, the limit of the container, or GOMEMLIMIT")
}
