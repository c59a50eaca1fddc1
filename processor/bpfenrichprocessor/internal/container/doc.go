// Package container tells from the path of a cgroup which container and Kubernetes pod a process is in. It
// knows the layouts of Docker, containerd, CRI-O and podman, with the systemd and the cgroupfs driver.
package container
