// Publishes a camera by WHIP and plays by WHEP, until so many frames have been decoded. Then both sessions are deleted.

const query = new URLSearchParams(location.search);
const video = document.querySelector("video");

// Sends the offer and takes the answer (RFC 9725, section 4.2). Returns how to end the session, unless it is refused.
const negotiate = async (kind, connection) => {
  connection.addEventListener("connectionstatechange", () => report("state", { kind, is: connection.connectionState }));
  await connection.setLocalDescription();
  const response = await fetch(query.get(kind), {
    method: "POST",
    headers: { "Content-Type": "application/sdp" },
    body: connection.localDescription.sdp,
  });
  const body = await response.text();
  const [type, location] = ["Content-Type", "Location"].map((name) => response.headers.get(name));
  await report(response.ok ? "accepted" : "refused", { kind, status: response.status, type, location, body });
  if (!response.ok) return undefined;
  await connection.setRemoteDescription({ type: "answer", sdp: body });

  return async () => {
    const { status } = await fetch(new URL(location, response.url), { method: "DELETE" });
    // Only now does the connection say goodbye by itself.
    connection.close();
    await report("deleted", { kind, status });
  };
};

const publish = async () => {
  const picture = { width: 320, height: 240, frameRate: 15 };
  const camera = await navigator.mediaDevices.getUserMedia({ audio: true, video: picture });
  const connection = new RTCPeerConnection();
  for (const track of camera.getTracks()) connection.addTransceiver(track, { direction: "sendonly" });
  return negotiate("whip", connection);
};

const play = async () => {
  const connection = new RTCPeerConnection();
  const receivers = ["audio", "video"].map((kind) => connection.addTransceiver(kind, { direction: "recvonly" }).receiver);
  video.srcObject = new MediaStream(receivers.map(({ track }) => track));
  const end = await negotiate("whep", connection);
  if (end !== undefined) await watch(connection);
  return end;
};

// The next picture that is shown, so small that what coding adds to it is not seen.
const canvas = new OffscreenCanvas(16, 12);
const context = canvas.getContext("2d", { willReadFrequently: true });
const shown = async () => {
  await new Promise((resolve) => video.requestVideoFrameCallback(resolve));
  context.drawImage(video, 0, 0, canvas.width, canvas.height);
  return context.getImageData(0, 0, canvas.width, canvas.height).data;
};

const differ = (one, other) => one.some((value, index) => Math.abs(value - other[index]) > 32);

// Returns once enough has been played.
const watch = async (connection) => {
  let [frames, changes, last] = [0, 0, await shown()];
  while (frames < Number(query.get("frames"))) {
    const picture = await shown();
    if (differ(picture, last)) changes++;
    last = picture;
    const received = [...(await connection.getStats()).values()].filter(({ type }) => type === "inbound-rtp");
    const [audio, video_] = ["audio", "video"].map((kind) => received.find((stats) => stats.kind === kind));
    frames = video_.framesDecoded;
    const samples = audio.totalSamplesReceived - audio.concealedSamples;
    report("playing", { frames, changes, samples, size: [video.videoWidth, video.videoHeight] });
  }
};

const run = async () => {
  const ends = [await publish(), await play()];
  for (const end of ends) await end?.();
};

run();
