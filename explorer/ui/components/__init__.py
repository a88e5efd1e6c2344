"""The app's own Streamlit components: trace player, feature map, gallery, strip, mask editor; their shared JavaScript and messages."""
