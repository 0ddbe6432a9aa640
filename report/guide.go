package report

// Fold breaks a text into lines of at most limit columns. The first begins with
// first; the others are indented by as much.
func Fold(first, text string, limit int) string { return fold(first, text, limit) }
