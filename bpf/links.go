//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// attachment is programs on BTF tracepoints whose links are pinned, so that they go on when the process is gone. All
// that are attached together are a generation. Programs of another version are attached beside those of before, and are
// silent until the settings that they share name their generation: that is the one store that hands over.
type attachment struct {
	dir        *Directory
	generation uint32
	at         place // of the pins
	adopted    bool  // an earlier process has attached them
	earlier    []int // generations of before that are still pinned
	links      []link.Link
	programs   []*ebpf.Program
}

// probesLinks is the name of the directories of links in a component's directory, each with its generation's number.
const probesLinks = "links"

// pinnedProgram is the suffix of the pin of a link's program, which keeps count of what it missed.
const pinnedProgram = "-program"

// nextGeneration returns the generation that new programs are to have. current is the one that the settings name.
func nextGeneration(dir *Directory, current uint32) (uint32, error) {
	numbers, err := dir.numbered(probesLinks)
	if err != nil {
		return 0, err
	}
	generation := current + 1
	for _, n := range numbers { // a process that was killed may have got further than the settings tell
		generation = max(generation, uint32(n)+1)
	}
	if current >= maxNumber || generation >= maxNumber { // no version comes so far, and its links would not be found again
		for generation = 1; slices.Contains(numbers, int(generation)); {
			generation++
		}
	}
	return generation, nil
}

// attach adopts the links of the current generation if they are of the same programs and mayAdopt allows it. Else it
// attaches programs, which are of generation next.
func attach(dir *Directory, programs map[string]*ebpf.Program, current, next uint32, mayAdopt bool) (*attachment, error) {
	numbers, err := dir.numbered(probesLinks)
	if err != nil {
		return nil, err
	}
	names, err := linkNames(programs)
	if err != nil {
		return nil, err
	}
	a := &attachment{dir: dir, generation: next}
	if mayAdopt && slices.Contains(numbers, int(current)) && sameLinks(linksPlace(dir, current), names) {
		a.generation, a.adopted = current, true
		err = a.adopt(names)
	} else {
		err = a.attach(programs, names)
	}
	if err != nil {
		return nil, errors.Join(err, a.detach())
	}
	a.earlier = slices.DeleteFunc(numbers, func(n int) bool { return uint32(n) == a.generation })
	return a, nil
}

func linksPlace(dir *Directory, generation uint32) place {
	return dir.join(fmt.Sprintf("%s-%d", probesLinks, generation))
}

// linkNames returns file names for the links, by program. A name has the tag of the program, so that an
// earlier version's link goes by another name.
func linkNames(programs map[string]*ebpf.Program) (map[string]string, error) {
	names := map[string]string{}
	for name, program := range programs {
		info, err := program.Info()
		if err != nil {
			return nil, fmt.Errorf("program %s: %w", name, err)
		}
		names[name] = name + "-" + info.Tag
	}
	return names, nil
}

// sameLinks reports whether a directory has exactly these links.
func sameLinks(at place, names map[string]string) bool {
	entries, err := at.entries()
	if err != nil || len(entries) != 2*len(names) {
		return false
	}
	has := func(name string) bool {
		return slices.ContainsFunc(entries, func(entry fs.DirEntry) bool { return entry.Name() == name })
	}
	for _, name := range names {
		if !has(name) || !has(name+pinnedProgram) {
			return false
		}
	}
	return true
}

// isAttached reports whether the generation has a link of this program, of whatever version.
func isAttached(dir *Directory, generation uint32, program string) (bool, error) {
	if !dir.Pinned() {
		return false, nil
	}
	links, err := linksPlace(dir, generation).entries()
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return slices.ContainsFunc(links, func(link fs.DirEntry) bool { return strings.HasPrefix(link.Name(), program+"-") }), err
}

// adopt takes over the links of the generation.
func (a *attachment) adopt(names map[string]string) error {
	at := linksPlace(a.dir, a.generation)
	pins, err := at.open()
	if err != nil {
		return fmt.Errorf("adopt probes: %w", err)
	}
	defer func() { _ = pins.close() }() // it was only read
	for program, name := range names {
		attached, err := loadPin(pins, name+pinnedProgram, ebpf.LoadPinnedProgram)
		if err != nil {
			return fmt.Errorf("adopt probe %s: %w", program, err)
		}
		a.programs = append(a.programs, attached)
	}
	a.at = at
	return nil
}

// attach attaches the programs, which stay silent until the settings name their generation.
func (a *attachment) attach(programs map[string]*ebpf.Program, names map[string]string) error {
	var pins *pinDir
	if a.at = linksPlace(a.dir, a.generation); a.at.pinned() && len(names) > 0 {
		var err error
		if pins, err = a.at.in.makeDir(a.at.name); err != nil {
			return fmt.Errorf("pin probes: %w", err)
		}
		defer func() { _ = pins.close() }() // what is pinned stays
	}
	for program, name := range names {
		attached := programs[program]
		l, err := link.AttachTracing(link.TracingOptions{Program: attached, AttachType: ebpf.AttachTraceRawTp})
		if err != nil {
			return fmt.Errorf("attach probe %s: %w", program, err)
		}
		a.links = append(a.links, l)
		a.programs = append(a.programs, attached)
		if pins != nil {
			if err := errors.Join(pins.pin(l, name), pins.pin(attached, name+pinnedProgram)); err != nil {
				return fmt.Errorf("pin probe %s: %w", program, err)
			}
		}
	}
	return nil
}

// dropEarlier detaches the generations of before, once the settings name this one.
func (a *attachment) dropEarlier() error {
	for _, n := range a.earlier {
		if err := linksPlace(a.dir, uint32(n)).removeAll(); err != nil {
			return fmt.Errorf("detach earlier probes: %w", err)
		}
	}
	a.earlier = nil
	return nil
}

// detach detaches the programs.
func (a *attachment) detach() error {
	var err error
	for _, l := range a.links {
		err = errors.Join(err, l.Close())
	}
	a.links = nil
	if a.at.pinned() {
		err = errors.Join(err, a.at.removeAll())
		a.at = place{}
	}
	return err
}

// recursions counts the runs that the kernel skipped because the program would have interrupted itself.
func (a *attachment) recursions() (uint64, error) {
	var total uint64
	for _, program := range a.programs {
		stats, err := program.Stats()
		if err != nil {
			return 0, fmt.Errorf("read statistics of a probe: %w", err)
		}
		total += stats.RecursionMisses
	}
	return total, nil
}

// close lets go of the programs; those whose links are pinned go on.
func (a *attachment) close() {
	for _, l := range a.links {
		_ = l.Close() // a descriptor; nothing to do about a failure
	}
	for _, program := range a.programs {
		_ = program.Close() // likewise
	}
}
