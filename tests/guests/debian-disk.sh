#!/bin/sh
# debian-disk.sh FOLDER: makes FOLDER/debian-12.img, a disk with Debian 12 for 32-bit PCs that boots through GRUB.
#
# It has both kernels (686 and 686-pae), gcc, sqlite3 and python3, and logs in “root” with the password “hako” on the screen
# and on the first serial line. /srv/noise is 200 MB of noise; FOLDER/debian-12.md5 has the check sums of it and of all programs.
# Needs root, a kernel that runs 32-bit programs, debootstrap, e2fsprogs, fdisk, grub-common, grub-pc-bin. No loop device.
set -eu

[ $# -eq 1 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; }
folder=$(cd "$1" && pwd)
[ "$(id -u)" -eq 0 ] || exec sudo "$0" "$folder"
umask 022

# All of it is a third of this; the rest is room for the tests.
disk_mib=3072
partition_mib=$((disk_mib - 1))
scratch=$(mktemp -d "$folder/.debian-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
tree=$scratch/tree
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

for try in 1 2 3; do
    rm -rf "$tree"
    debootstrap --arch=i386 --variant=minbase \
        --include=systemd-sysv,udev,kmod,procps,linux-image-686,linux-image-686-pae,gcc,libc6-dev,sqlite3,python3 \
        bookworm "$tree" "$mirror" >"$scratch/log" 2>&1 && break
    [ "$try" -lt 3 ] || { echo "debian-disk: debootstrap failed:" >&2; tail -n 20 "$scratch/log" >&2; exit 1; }
done
rm -f "$tree"/var/cache/apt/archives/*.deb

echo hako >"$tree/etc/hostname"
echo '127.0.0.1 localhost hako' >"$tree/etc/hosts"
echo '/dev/sda1 / ext4 errors=remount-ro 0 1' >"$tree/etc/fstab"
echo 'root:hako' | chroot "$tree" chpasswd
# A busy host is slow; systemd would give up on devices after 90 seconds.
mkdir -p "$tree/etc/systemd/system.conf.d"
printf '[Manager]\nDefaultTimeoutStartSec=900\nDefaultDeviceTimeoutSec=900\n' >"$tree/etc/systemd/system.conf.d/hako.conf"
# Only what this disk needs: reading an initrd with all of Debian's drivers is most of a boot.
echo 'MODULES=list' >"$tree/etc/initramfs-tools/conf.d/hako"
printf '%s\n' ata_piix sd_mod sr_mod ext4 >>"$tree/etc/initramfs-tools/modules"
chroot "$tree" update-initramfs -u -k all >"$scratch/log" 2>&1 || { cat "$scratch/log" >&2; exit 1; }

# GRUB: its modules and a menu of both kernels, on the screen and on the first serial line.
mkdir -p "$tree/boot/grub/i386-pc"
cp /usr/lib/grub/i386-pc/*.mod /usr/lib/grub/i386-pc/*.lst "$tree/boot/grub/i386-pc/"
{
    echo 'serial'
    echo 'terminal_input console serial'
    echo 'terminal_output console serial'
    echo 'set timeout=-1'
    for flavour in 686 686-pae; do
        version=$(cd "$tree/boot" && echo vmlinuz-*-"$flavour")
        version=${version#vmlinuz-}
        echo "menuentry 'Debian $flavour' {"
        echo "    linux /boot/vmlinuz-$version root=/dev/sda1 ro nomodeset console=ttyS0 console=tty0"
        echo "    initrd /boot/initrd.img-$version"
        echo '}'
    done
} >"$tree/boot/grub/grub.cfg"

mkdir -p "$tree/srv"
head -c 200000000 /dev/urandom >"$tree/srv/noise"
(cd "$tree" && find srv/noise usr/bin usr/sbin -type f | LC_ALL=C sort | xargs md5sum) >"$scratch/debian-12.md5"

# The boot sector finds the rest of GRUB in the sectors after it, as both are made for that place.
image=$scratch/debian-12.img
truncate -s "${disk_mib}M" "$image"
echo '2048,,L,*' | sfdisk -q --no-reread "$image"
grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o "$scratch/core.img" biosdisk part_msdos ext2 normal linux configfile echo ls
[ "$(stat -c %s "$scratch/core.img")" -lt 1000000 ] || { echo "debian-disk: GRUB is too large for its place" >&2; exit 1; }
dd if=/usr/lib/grub/i386-pc/boot.img of="$image" bs=440 count=1 conv=notrunc status=none
dd if="$scratch/core.img" of="$image" bs=512 seek=1 conv=notrunc status=none
mke2fs -q -t ext4 -L hako -d "$tree" -E offset=1048576 "$image" "${partition_mib}M"

mv "$scratch/debian-12.md5" "$image" "$folder/"
[ -z "${SUDO_UID:-}" ] || chown "$SUDO_UID:$SUDO_GID" "$folder/debian-12.md5" "$folder/debian-12.img"
