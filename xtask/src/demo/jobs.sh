#!/bin/sh
# What somebody's own scripts might start. Nothing here knows of a governor.
say="-hide_banner -loglevel error -nostdin -y"

# Two threads of encoding, of which the rules allow half a core.
ffmpeg $say -f lavfi -i testsrc2=size=1280x720:rate=30:duration=3 -c:v libx264 -preset veryfast quota.mkv &

# 4K frames in an encoder's look-ahead, in 200 MiB.
ffmpeg $say -f lavfi -i testsrc2=size=3840x2160:rate=30:duration=5 -c:v libx264 -preset medium memory.mkv &

# A stream at its own pace, ended by somebody else's clean-up.
ffmpeg $say -re -f lavfi -i testsrc2=size=640x360:rate=25:duration=60 -c:v libx264 -preset ultrafast stream.mkv &
(sleep 3 && exec ./nightly-cleanup $!) &

# A file that is no video.
echo "this is no video" >broken.mp4
ffmpeg $say -i broken.mp4 -c:v libx264 broken.mkv &

# A GStreamer pipeline that writes a file.
gst-launch-1.0 -q videotestsrc num-buffers=300 ! video/x-raw,width=1280,height=720 ! jpegenc ! filesink location=pipeline.mjpeg &

# Gone within 20 ms.
gst-launch-1.0 --version &

wait
