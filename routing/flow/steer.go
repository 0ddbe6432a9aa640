package flow

import (
	"math/bits"
	"time"
)

const (
	// budget is how many packets of one class are taken in a second.
	budget = 2000
	// steering is how often the sampling follows the traffic.
	steering = 250 * time.Millisecond
	// atMost is how long an overrun may last before the sampling follows.
	atMost = 20 * time.Millisecond
	// coarsest is the largest number of bits of a mask.
	coarsest = 16
)

// coarse is the mask at the beginning of a window: the traffic is not known
// yet.
var coarse = masks{handshake: 1<<4 - 1, payload: 1<<4 - 1,
	requests: 1<<4 - 1, segments: 1<<8 - 1}

// steer returns the masks for the next step, from the packets of each class
// taken in a time.
func (m masks) steer(taken [classes]int, in time.Duration) masks {
	for c := range m {
		m[c] = steered(m[c], taken[c], int(budget*in/time.Second))
	}
	return m
}

// steered makes a mask finer if twice the packets that were taken, and six
// more, would still fit at the next step. It makes a mask coarser if too many
// were taken.
func steered(mask uint32, taken, fit int) uint32 {
	n := bits.Len32(mask)
	for ; taken > fit && n < coarsest; n++ {
		taken /= 2
	}
	for ; (taken+3)*2 <= fit && n > 0; n-- {
		taken = (taken + 3) * 2
	}
	return 1<<n - 1
}

// oneIn returns the meaning of a mask: one packet in so many.
func oneIn(mask uint32) int { return int(mask) + 1 }
